"""A training run: batches in, a fine-tuned model and its checkpoints out (paper, sections 3.3 and 5.2).

`trainer` reads like the loop, `learner` is one optimizer step, `losses` are the paper's. This room uses `training.data`
and the model; the command line starts it from a recipe.
"""
