"""The field's text-to-video datasets, from a download folder to a manifest that training and evaluation read.

Nothing is downloaded and no dataset is part of the package: each module names the files that its loaders read, where the
field gets them, and how many videos and captions the published splits have.
"""
