"""What a newcomer sees first in the README; its blocks are run by test_docs.py."""

from doc_blocks import ROOT, read_blocks

README = ROOT / "README.md"


def test_the_first_screen_has_the_two_commands() -> None:
    first, second = read_blocks(README)[:2]
    assert "pip install . && colbert-video demo" in first.text
    assert 'pip install -e ".[test]" && python -m pytest' in second.text
    assert second.line < 30


def test_most_of_it_is_run() -> None:
    blocks = read_blocks(README)
    assert {block.language for block in blocks} == {"bash", "python"}
    assert len(blocks) > 8
    assert not any(block.skipped for block in blocks)
