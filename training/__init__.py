"""Training Video-ColBERT (Reddy et al., CVPR 2025): dual sigmoid loss, data, evaluation and a synthetic world."""
