"""Rows of the paper, from the downloaded files to the figures, in one command.

`plan` says what is run, `reproduce` runs its stages, `reproduce_report` puts the figures beside the published ones. This
room uses all of `training`.
"""
