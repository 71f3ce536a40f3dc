"""A registry of models loads after a kill at any step of saving, and says in a sentence what is wrong with it."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from models import checkpoints
from models.checkpoints import CheckpointRefused
from models.config import PhoenixConfig
from models.phoenix import Phoenix
from models.registry import MANIFEST, Entry, Facts, Registry


@pytest.fixture(scope="module")
def phoenixes(tiny: PhoenixConfig) -> list[Phoenix]:
    return [Phoenix.untrained(tiny, seed) for seed in range(5)]


def facts(at: int, parent: str = "") -> Facts:
    return Facts(at, at - 1000, at - 1, 64 * at, at, parent, {"learning_rate": 0.001}, {"loss": 0.25, "auc": None})


def filled(folder: Path, phoenixes: list[Phoenix], keep: int = 3) -> Registry:
    registry = Registry(folder, keep)
    for at, phoenix in enumerate(phoenixes, start=1):
        registry.publish(phoenix, facts(at))
    return registry


def test_what_is_published_comes_back_with_where_it_comes_from(tmp_path: Path, phoenixes: list[Phoenix]) -> None:
    registry = Registry(tmp_path / "not" / "there", keep=2)
    assert registry.entries() == []
    assert registry.latest() is None
    first = registry.publish(phoenixes[0], facts(1))
    second = registry.publish(phoenixes[1], facts(2, parent=first.version))
    assert first.path.name == f"{phoenixes[0].version}.phoenix"
    assert Registry(registry.folder, keep=2).entries() == [first, second]
    assert registry.latest() == second
    assert second.facts == facts(2, parent=first.version)
    assert registry.load(registry.entry(first.version)).version == phoenixes[0].version


def test_the_last_are_kept_and_the_serving_one(tmp_path: Path, phoenixes: list[Phoenix]) -> None:
    registry = Registry(tmp_path, keep=2)
    versions = [phoenix.version for phoenix in phoenixes]
    for at, phoenix in enumerate(phoenixes):
        registry.publish(phoenix, facts(at), keeping=versions[:1] if at < 4 else ())
        expected = {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [0, 2, 3], 4: [3, 4]}[at]
        assert [entry.version for entry in registry.entries()] == [versions[number] for number in expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [MANIFEST, *(f"{version}.phoenix" for version in versions[3:])]
    )


def test_the_newest_published_again_is_one_entry_and_an_older_one_becomes_the_newest(
    tmp_path: Path, phoenixes: list[Phoenix]
) -> None:
    registry = filled(tmp_path, phoenixes[:2])
    before = (tmp_path / MANIFEST).read_bytes()
    assert registry.publish(phoenixes[1], facts(9)).facts.at == 2
    assert (tmp_path / MANIFEST).read_bytes() == before
    again = registry.publish(phoenixes[0], facts(9))
    assert [entry.version for entry in registry.entries()] == [phoenixes[1].version, phoenixes[0].version]
    assert registry.latest() == again


class Killed(BaseException):
    """Stands for SIGKILL: no handler of errors takes it, and the clean-up of partial files is undone."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process before its step-th call to the file system's write, fsync, rename or remove."""
    calls = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls >= step:
                raise Killed
            return real(*arguments, **named)

        return call

    monkeypatch.setattr(checkpoints.os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


# fsync, rename, fsync of the folder, and removing the partial file: for the checkpoint and for the manifest; then one
# old checkpoint to remove.
@pytest.mark.parametrize("step", range(1, 10))
def test_a_kill_at_any_step_leaves_a_registry_that_loads(
    tmp_path: Path, phoenixes: list[Phoenix], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = filled(tmp_path, phoenixes[:2], keep=2)
    with monkeypatch.context() as patched:
        killed_at(step, patched)
        with pytest.raises(Killed):
            registry.publish(phoenixes[2], facts(3))
    after = Registry(tmp_path, keep=2)
    published = 1 if step <= 6 else 2  # the manifest is renamed by the sixth call
    latest = after.latest()
    assert latest is not None
    assert latest.version == phoenixes[published].version
    for entry in after.entries():
        assert after.load(entry).version == entry.version
    # The writer repeats itself, and nothing is left of the kill.
    made = after.publish(phoenixes[2], facts(3))
    after.publish(phoenixes[3], facts(4))
    assert [entry.version for entry in after.entries()] == [made.version, phoenixes[3].version]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [MANIFEST, made.path.name, f"{phoenixes[3].version}.phoenix"]
    )


def test_a_kill_before_the_first_manifest_leaves_an_empty_registry(tmp_path: Path, phoenixes: list[Phoenix]) -> None:
    phoenixes[0].save(tmp_path / f"{phoenixes[0].version}.phoenix")
    registry = Registry(tmp_path, keep=1)
    assert registry.entries() == []
    assert registry.publish(phoenixes[0], facts(1)) == registry.latest()


def changed(registry: Registry, **changes: object) -> None:
    path = registry.folder / MANIFEST
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **changes}))


def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, phoenixes: list[Phoenix]) -> None:
    registry = filled(tmp_path, phoenixes[:2])
    first, second = registry.entries()
    first.path.unlink()
    with pytest.raises(CheckpointRefused, match=r"phoenix: it is missing, though manifest.json names it"):
        registry.load(first)
    whole = second.path.read_bytes()
    second.path.write_bytes(whole[:-1])
    with pytest.raises(CheckpointRefused, match="its hash differs"):
        registry.load(second)
    assert registry.publish(phoenixes[1], facts(3)).facts.at == 3, "a damaged one is written anew"
    assert second.path.read_bytes() == whole
    with pytest.raises(CheckpointRefused, match="there is no model beef"):
        registry.entry("beef")
    other = Entry(first.version, second.path, second.sha256, second.facts)
    with pytest.raises(CheckpointRefused, match=f"holds model {second.version}, not {first.version}"):
        registry.load(other)


def test_a_manifest_of_another_format_cut_or_pointing_elsewhere_is_refused(
    tmp_path: Path, phoenixes: list[Phoenix]
) -> None:
    registry = filled(tmp_path, phoenixes[:1])
    path = tmp_path / MANIFEST
    whole = path.read_bytes()
    for end in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointRefused, match=r"manifest.json: it is cut off or damaged .* name another folder"):
            registry.latest()
    path.write_bytes(whole)
    changed(registry, format=2)
    with pytest.raises(CheckpointRefused, match="it has format 2, of another version; this one reads format 1"):
        registry.publish(phoenixes[1], facts(2))
    path.write_bytes(whole.replace(f'"{phoenixes[0].version}.phoenix"'.encode(), b'"../elsewhere.phoenix"'))
    with pytest.raises(CheckpointRefused, match=r"names a file \.\./elsewhere.phoenix"):
        registry.entries()
    with pytest.raises(ValueError, match="at least the newest"):
        Registry(tmp_path, keep=0)
