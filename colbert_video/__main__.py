"""`python -m colbert_video` is the command line too, for launchers such as torchrun that start modules."""

from colbert_video.cli import main

if __name__ == "__main__":
    main()
