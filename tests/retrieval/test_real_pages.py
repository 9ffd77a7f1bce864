"""A real help centre, where its pages are at hand: the right page comes first or second."""

import json
import math
import os
from pathlib import Path

import pytest

from bot import weights
from bot.weights.errors import WeightsMissing
from retrieval.embedders.minilm import MiniLMEmbedder
from retrieval.generations import Generations
from retrieval.reader import KnowledgeReader
from retrieval.records import Records
from retrieval.refresh import Refresher
from retrieval.search import Searcher
from retrieval.settings import RetrievalSettings, SourceSettings

DATA = Path(os.environ.get("TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "docs_sendgrid"
PAGES = DATA / "base_2021-03-01"
RRF_BASELINE = 0.643  # plain RRF over chunks of ~900 characters, measured on the same link texts

QUESTIONS = {
    "I think my account was compromised, what should I do?": "ui/account-and-settings/account-compromised.md",
    "How do I cancel my account?": "ui/account-and-settings/cancel-your-account.md",
    "Is SendGrid HIPAA compliant?": "ui/account-and-settings/hipaa-compliant.md",
    "What are the hourly limits of automated IP warmup?": "ui/sending-email/warming-up-an-ip-address.md",
    "Where do I turn on two-factor authentication?": "ui/account-and-settings/two-factor-authentication.md",
    "What do the lines on my invoice mean?": "ui/account-and-settings/reading-your-invoice.md",
    "How do I set up reverse DNS?": "ui/account-and-settings/how-to-set-up-reverse-dns.md",
    "What is a spam trap?": "ui/sending-email/spam-traps.md",
    "How should a CSV file of contacts be formatted?": "ui/managing-contacts/formatting-a-csv.md",
    "What is the difference between SSL and TLS?": "ui/sending-email/ssl-vs-tls.md",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGES.is_dir(), reason="the real help centre's pages are not here"),
]


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    try:
        embedder = MiniLMEmbedder(weights.embedder_folder())
    except WeightsMissing as error:
        pytest.skip(str(error))
    generations = Generations(tmp_path_factory.mktemp("real") / "knowledge")
    settings = RetrievalSettings()
    source = SourceSettings(name="help", path=str(PAGES))
    report = Refresher(generations, [source], PAGES, embedder, settings).refresh()
    assert report.published and report.documents == 458 and not report.skipped
    reader = KnowledgeReader(generations)
    yield Searcher(reader, embedder, Records(None, None, PAGES), settings)
    reader.close()


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_right_page_is_first_or_second(searcher, question):
    hits = searcher.search(question, top_k=2, by="document").hits
    assert QUESTIONS[question] in [hit.chunk.document for hit in hits]


def test_link_texts_find_their_pages_at_least_as_well_as_plain_rrf(searcher):
    lines = (DATA / "DERIVED_anchor_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [pair for pair in map(json.loads, lines) if not pair["same_as_title"]]
    gains = []
    for pair in pairs:
        found = [hit.chunk.document for hit in searcher.search(pair["query"], by="document").hits]
        gains.append(1 / math.log2(found.index(pair["gold"]) + 2) if pair["gold"] in found else 0.0)
    assert len(gains) == 207
    assert sum(gains) / len(gains) >= RRF_BASELINE
