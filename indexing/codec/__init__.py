"""The residual codec (ColBERTv2, section 3.3): a token is its nearest centroid plus a few bits per dimension.

`fit` trains a codec and `codec` compresses and decodes tokens with it. This room uses numpy, torch and faiss and knows
no files but the codec's own tensors; `segments` stores what it makes and `scan` scores it.
"""
