"""Work with the tools around: evaluation suites, datasets, notebooks, and the rankings of other retrievers."""
