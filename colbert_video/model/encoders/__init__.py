"""Encoders beside `VideoColBERT`: `function_encoder` makes one of two functions, `first_dims` cuts the tokens of another one.

They need `encoder` and `tokens` of the room above, and `loading` hands them on. Those of other packages are in `ecosystem`.
"""
