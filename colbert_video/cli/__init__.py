"""The command line `colbert-video`.

Exit codes: 0 all done; 1 done, but some inputs failed and are listed; 2 bad usage, with one line that says what to do.
"""

from colbert_video.cli.program import main as main
