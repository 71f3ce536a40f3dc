"""Documents generated from code are those of the code."""

from docs.generate import FOLDER, files


def test_the_generated_documents_are_up_to_date() -> None:
    for name, text in files().items():
        assert (FOLDER / name).read_text() == text, f"docs/{name} is behind the code: run make docs"


def test_every_command_has_an_example() -> None:
    sections = files()["command-line.md"].split("\n## ")[1:]
    assert sections
    assert [section.splitlines()[0] for section in sections if "Example: `run_flow.py" not in section] == []
