"""Questions of several parts: how their texts are weighed and encoded, and how videos are scored by them.

`word_weights` reads weights in a text, `encoded_question` makes query tokens of a question, `composed` scores videos that must
meet several parts or lack some, `step_order` finds the best order of parts in a video, `occurrences` all places of one part,
`likeness` makes a query of stored tokens, and `bagwise` searches for a query that differs from bag to bag. `Searcher` uses all of them.
"""
