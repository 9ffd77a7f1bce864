"""LangChain's border: its own standard suites, and what they do not ask: whose records, stop strings, streams that end.

Run as: python -m pytest tests/bot/test_langchain.py
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import ChatModelIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from bot import SupportBot
from bot.answer import BotOptions
from bot.langchain import TandemChatModel, TandemRetriever
from bot.state import open_state
from bot.turns import TurnLog
from retrieval.generations import Generations
from retrieval.reader import KnowledgeReader
from retrieval.records import Records
from retrieval.refresh import Refresher
from retrieval.search import Searcher
from retrieval.settings import RecordsSettings, RetrievalSettings, SourceSettings
from tests.stand_ins import HashEmbedder, ScriptedModel, write_documents

EXPORT = "You export your data as CSV under Settings, Export."
QUESTION = "How do I export my data?"
DOCUMENTS = {
    "export.md": f"# Export\n\n{EXPORT}\n",
    "billing.md": "# Billing\n\nInvoices are sent by e-mail on the first day of each month.\n",
    "password.md": "# Password\n\nYou reset your password on the sign-in page.\n",
    "teams.md": "# Teams\n\nAn administrator invites members under Settings, Members.\n",
}
INTERNAL = {"refunds.md": "# Refunds\n\nStaff may refund the export add-on up to 50 euros.\n"}
CUSTOMERS = [{"customer_id": "cus_1", "name": "Ada"}, {"customer_id": "cus_2", "name": "Bob"}]
TICKETS = [
    {"ticket_id": f"t{n}", "customer_id": f"cus_{n}", "subject": f"Export of customer {n} fails", "status": "open",
     "updated_at": "2026-01-02", "messages": [{"content": f"The export of my data stops at {n} percent."}]}
    for n in (1, 2)
]  # fmt: skip


class Deployment:
    """A small real deployment: documents refreshed into Chroma, records, a turn log."""

    def __init__(self, root: Path) -> None:
        sources = [
            SourceSettings(name="help", path=str(write_documents(root / "help", DOCUMENTS))),
            SourceSettings(name="staff", path=str(write_documents(root / "staff", INTERNAL)), audience="internal"),
        ]
        for name, rows in (("customers", CUSTOMERS), ("tickets", TICKETS)):
            (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        settings, embedder, generations = RetrievalSettings(), HashEmbedder(), Generations(root / "knowledge")
        Refresher(generations, sources, root, embedder, settings).refresh()
        self.records = Records(
            RecordsSettings(path="customers.jsonl"), RecordsSettings(path="tickets.jsonl"), root
        )
        self.reader = KnowledgeReader(generations)
        self.searcher = Searcher(self.reader, embedder, self.records, settings)
        self.turns = TurnLog(open_state(root / "state.sqlite3"))

    def bot(self, model: ScriptedModel) -> SupportBot:
        return SupportBot(model, self.searcher, self.records, self.turns, BotOptions(min_similarity=0.0))

    def close(self) -> None:
        self.turns.close()
        self.reader.close()


@pytest.fixture
def anyio_backend() -> str:
    """Run coroutine tests, the suites' own too; pytest-asyncio would warn about the mark on each of their plain tests."""
    return "asyncio"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    yield made
    made.close()


@pytest.mark.anyio
class TestRetrieverStandard(RetrieversIntegrationTests):
    searcher: Searcher

    @pytest.fixture(autouse=True)
    def _deployed(self, deployment: Deployment) -> None:
        self.searcher = deployment.searcher

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return TandemRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"searcher": self.searcher}

    @property
    def retriever_query_example(self) -> str:
        return QUESTION


class _ChatModelProperties:
    """What both suites are told; no standard test is overridden, the properties say what is not supported."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return TandemChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": ScriptedModel("Hello you, how can I help?")}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_tool_choice(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_image_inputs(self) -> bool:
        return False

    @property
    def supports_model_override(self) -> bool:
        return False  # a TandemChatModel is one model; another name is an error, see test_options_it_cannot_honour


class TestChatModelUnit(_ChatModelProperties, ChatModelUnitTests):
    pass


@pytest.mark.anyio
class TestChatModelIntegration(_ChatModelProperties, ChatModelIntegrationTests):
    pass
