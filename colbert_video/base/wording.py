"""Numbers of things in sentences for people."""


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: "1 video", "1,000 videos", "2 queries"."""
    if number == 1:
        return f"1 {noun}"
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {several}"
