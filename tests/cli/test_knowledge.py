"""`tandem refresh` and `tandem generations`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Tandem
from tests.conftest import Deployment
from tests.stand_ins import HashEmbedder, write_documents

REPORT = [
    "generation", "parent", "published", "refused", "added", "updated", "deleted", "unchanged",
    "documents", "chunks", "chunks_embedded", "skipped", "seconds",
]  # fmt: skip


def files(deployment: Deployment) -> set[str]:
    """Name what is kept of knowledge, the lock aside."""
    folder = deployment.home / "knowledge"
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_refresh_reports_as_the_contract_says(shop: Deployment, tandem: Tandem) -> None:
    (shop.root / "knowledge" / "bad.md").write_bytes(b"\xff\xfe\x00 no text \x00")
    report = tandem("refresh", "--json").json
    assert list(report) == REPORT
    assert report["generation"] == "g000001" and report["parent"] is None and report["published"] is True
    assert (report["added"], report["documents"], report["chunks"], report["chunks_embedded"]) == (3, 3, 3, 3)
    assert report["refused"] is None and report["seconds"] > 0
    assert [sorted(item) for item in report["skipped"]] == [["document", "reason"]]
    assert "bad.md" in report["skipped"][0]["document"] and report["skipped"][0]["reason"]


def test_the_second_refresh_publishes_nothing(ready: Deployment, tandem: Tandem, embedder: HashEmbedder) -> None:
    before, embedded = files(ready), embedder.embedded
    ran = tandem("refresh", "--json")
    assert ran.status == 0 and ran.json["published"] is False and ran.json["generation"] == "g000001"
    assert (ran.json["added"], ran.json["updated"], ran.json["deleted"], ran.json["unchanged"]) == (0, 0, 0, 3)
    assert files(ready) == before and embedder.embedded == embedded


def test_refresh_counts_what_changed(ready: Deployment, tandem: Tandem) -> None:
    write_documents(
        ready.root / "knowledge", {"prices.md": "# Prices\n\nPro costs $13.\n", "new.md": "# New\n\nNew.\n"}
    )
    (ready.root / "knowledge" / "export.md").unlink()
    report = tandem("refresh", "--allow-shrink", "--json").json
    assert (report["generation"], report["parent"]) == ("g000002", "g000001")
    assert (report["added"], report["updated"], report["deleted"], report["unchanged"]) == (1, 1, 1, 1)


def test_a_dry_run_writes_nothing(shop: Deployment, tandem: Tandem, embedder: HashEmbedder) -> None:
    ran = tandem("refresh", "--dry-run", "--json")
    assert (ran.status, ran.json["published"], ran.json["added"], ran.json["generation"]) == (0, False, 3, None)
    assert files(shop) == set() and embedder.embedded == 0


def test_a_shrunken_source_is_refused_until_it_is_allowed(ready: Deployment, tandem: Tandem) -> None:
    (ready.root / "knowledge" / "export.md").unlink()
    before = files(ready)
    ran = tandem("refresh", "--json")
    assert ran.status == 3 and ran.json["published"] is False and "'help'" in ran.json["refused"]
    assert files(ready) == before
    spoken = tandem("refresh")
    assert (spoken.status, spoken.out) == (3, "") and "--allow-shrink" in spoken.err
    assert tandem("refresh", "--allow-shrink", "--json").json["published"] is True


def test_generations_are_listed_shown_compared_and_rolled_back_to(ready: Deployment, tandem: Tandem) -> None:
    write_documents(
        ready.root / "knowledge", {"prices.md": "# Prices\n\nPro costs $13.\n", "new.md": "# New\n\nNew.\n"}
    )
    tandem("refresh")
    listed = tandem("generations", "--json").json
    assert listed["current"] == "g000002"
    assert [(row["generation"], row["current"], row["documents"]) for row in listed["generations"]] == [
        ("g000001", False, 3),
        ("g000002", True, 4),
    ]
    shown = tandem("generations", "show", "g000001", "--json").json
    assert shown["parent"] is None
    assert shown["keys"] == ["help/export.md", "help/prices.md", "staff/discounts.md"]
    changes = tandem("generations", "diff", "g000001", "g000002", "--json").json
    assert changes == {
        "from": "g000001", "to": "g000002", "added": ["help/new.md"], "updated": ["help/prices.md"], "deleted": [],
    }  # fmt: skip
    assert tandem("generations", "rollback", "g000001", "--json").json == {"current": "g000001"}
    assert tandem("generations", "list", "--json").json["current"] == "g000001"
    assert "$12" in tandem("search", "What does the Pro plan cost?", "--json").out


@pytest.mark.parametrize("words", [("show", "g9"), ("rollback", "g9"), ("diff", "g000001", "g9")])
def test_an_unknown_generation(ready: Deployment, tandem: Tandem, words: tuple[str, ...]) -> None:
    ran = tandem("generations", *words, "--json")
    assert ran.status == 1 and "g9" in ran.complaint
    assert tandem("generations", "--json").json["current"] == "g000001"


def test_comparing_with_an_unknown_generation_explains_itself(ready: Deployment, tandem: Tandem) -> None:
    assert "There is no generation 'g9'" in tandem("generations", "diff", "g000001", "g9").complaint


@pytest.mark.parametrize("words", [("show",), ("diff", "g000001"), ("list", "g000001")])
def test_a_wrong_number_of_generations(ready: Deployment, tandem: Tandem, words: tuple[str, ...]) -> None:
    ran = tandem("generations", *words)
    assert ran.status == 2 and "Use: tandem generations" in ran.complaint
