"""Every code block of the documentation runs, or says why it does not."""

import re
import shutil
from pathlib import Path

import pytest
from doc_blocks import LANGUAGES, ROOT, Block, Reader, check_arguments, commands, read_blocks

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _runs(blocks: list[Block]) -> bool:
    return any(block.language in LANGUAGES and not block.skipped for block in blocks)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_blocks_run(page: Path, rendered_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = read_blocks(page)
    if _runs(blocks):
        shutil.copytree(rendered_clips, tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    reader = Reader(tmp_path)
    for block in blocks:
        reader.read(block)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_block_escapes(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = read_blocks(page)
    assert 2 * len(blocks) == len(re.findall(r"^ *```", text, flags=re.MULTILINE)), "a fence is not closed"
    for block in blocks:
        where = f"{block.page}:{block.line}"
        assert block.language not in ("sh", "shell", "console", "py"), f"{where}: call it bash or python"
        if block.skipped:
            reason = (block.marker or "").removeprefix("not run").removeprefix(":").strip()
            assert len(reason) > 8, f"{where}: a block that is not run needs a reason"
    markers = re.findall(r"<!-- (not run\b.*?|output) -->\n *(```)?", text)
    assert all(fence for _, fence in markers), "a marker must stand on the line before its fence"


class TestReader:
    """The tests above can fail."""

    def read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("doc_blocks.ROOT", tmp_path)
        page = tmp_path / "page.md"
        page.write_text(text)
        reader = Reader(tmp_path)
        for block in read_blocks(page):
            reader.read(block)

    def test_a_comment_further_up_is_no_marker(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read(
            tmp_path, monkeypatch, "<!-- figures: x -->\n\n<!-- not run: no such file -->\n```bash\npython no.py\n```\n"
        )

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("```python\nprint(1)\n```\n\n```python\n1 / 0\n```\n", "page.md:5: ZeroDivisionError"),
            ("```bash\ncolbert-video info --index nothing.index\n```\n", "page.md:1.*exit code 2"),
            ("```bash\nls nothing\n```\n", "nothing"),
            ("<!-- not run: x -->\n```bash\ncolbert-video search cat --index i --kk 3\n```\n", "kk"),
            ("<!-- not run: x -->\n```python\nprint(\n```\n", "SyntaxError"),
            ("```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```\n", "1\nis not\n2"),
        ],
    )
    def test_finds_what_is_wrong(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
    ) -> None:
        with pytest.raises(AssertionError, match=f"(?s){complaint}"):
            self.read(tmp_path, monkeypatch, text)

    def test_blocks_share_names_and_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = "```bash\ncat > number <<EOF\n40\nEOF\n```\n```python\nfrom pathlib import Path\nn = 2\n```\n"
        second = "```python\nprint(n + int(Path('number').read_text()))\n```\n<!-- output -->\n```text\n4...\n```\n"
        self.read(tmp_path, monkeypatch, first + second)

    def test_commands_are_joined(self) -> None:
        text = "# nothing\na \\\n  b\ncat <<'X'\n1\nX\nc  # d\n"
        assert list(commands(text)) == ["a b", "cat <<'X'\n1\nX", "c  # d"]

    def test_options_are_checked(self) -> None:
        check_arguments(["serve", "my.index", "--port", "8001"])
        with pytest.raises(Exception, match="No such option"):
            check_arguments(["serve", "my.index", "--prot", "8001"])
