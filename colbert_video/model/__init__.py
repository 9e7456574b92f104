"""Text and videos become bags of unit token vectors; MeanMaxSim scores them.

`encoder` says what index and search need of a model: `video_colbert` is one (paper, sections 3.1 to 3.4), made of a
`backbone`, of which `backbones` holds two families, and of `temporal`, the transformer that makes video tokens.
`checkpoint` is the folder that a model is saved as, `loading` finds it by its name.
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.model.backbone import Backbone as Backbone
    from colbert_video.model.backbone import Preprocess as Preprocess
    from colbert_video.model.backbone import TokenizedQueries as TokenizedQueries
    from colbert_video.model.backbones.open_clip import OpenClipBackbone as OpenClipBackbone
    from colbert_video.model.backbones.transformers_backbone import TransformersBackbone as TransformersBackbone
    from colbert_video.model.config import ModelConfig as ModelConfig
    from colbert_video.model.encoder import VideoEncoder as VideoEncoder
    from colbert_video.model.encoder import check_encoder as check_encoder
    from colbert_video.model.encoders.first_dims import FirstDims as FirstDims
    from colbert_video.model.encoders.function_encoder import FunctionEncoder as FunctionEncoder
    from colbert_video.model.interaction import Interaction as Interaction
    from colbert_video.model.interaction import fuse as fuse
    from colbert_video.model.interaction import mean_max_sim as mean_max_sim
    from colbert_video.model.interaction import mean_pool_sim as mean_pool_sim
    from colbert_video.model.interaction import reciprocal_rank_fusion as reciprocal_rank_fusion
    from colbert_video.model.loading import load_encoder as load_encoder
    from colbert_video.model.pooling import Pooling as Pooling
    from colbert_video.model.pooling import pool as pool
    from colbert_video.model.tokens import QueryTokens as QueryTokens
    from colbert_video.model.tokens import TokenBags as TokenBags
    from colbert_video.model.tokens import VideoTokens as VideoTokens
    from colbert_video.model.video_colbert import VideoColBERT as VideoColBERT

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.model.backbone": ["Backbone", "Preprocess", "TokenizedQueries"],
        "colbert_video.model.config": ["ModelConfig"],
        "colbert_video.model.encoders.first_dims": ["FirstDims"],
        "colbert_video.model.encoders.function_encoder": ["FunctionEncoder"],
        "colbert_video.model.interaction": [
            "Interaction",
            "fuse",
            "mean_max_sim",
            "mean_pool_sim",
            "reciprocal_rank_fusion",
        ],
        "colbert_video.model.encoder": ["VideoEncoder", "check_encoder"],
        "colbert_video.model.loading": ["load_encoder"],
        "colbert_video.model.backbones.open_clip": ["OpenClipBackbone"],
        "colbert_video.model.pooling": ["Pooling", "pool"],
        "colbert_video.model.tokens": ["QueryTokens", "TokenBags", "VideoTokens"],
        "colbert_video.model.backbones.transformers_backbone": ["TransformersBackbone"],
        "colbert_video.model.video_colbert": ["VideoColBERT"],
    },
)
