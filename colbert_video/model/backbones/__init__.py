"""The dual encoders behind a model, of open_clip and of Hugging Face transformers, opened up to all text tokens.

Each is a `Backbone` (`model/backbone.py`), which `checkpoint` and `video_colbert` choose by its name. `clip_towers` computes
CLIP's plain architecture without open_clip, of `tower_block`s, which also make open_clip's own towers faster.
"""
