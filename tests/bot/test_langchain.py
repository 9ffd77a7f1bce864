"""LangChain's border: its own standard suites, and what they do not ask: whose records, stop strings, streams that end.

Run as: python -m pytest tests/bot/test_langchain.py
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_tests.integration_tests import ChatModelIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import ValidationError

from bot import SupportBot, weights
from bot.answer import Answer, BotOptions
from bot.bootstrap import build_refresher
from bot.langchain import TandemChatModel, TandemRetriever, UnsupportedInput, as_runnable
from bot.langchain.chat_model import until_stop
from bot.settings import load_settings
from bot.state import open_state
from bot.turns import Caller, TurnLog
from bot.weights.errors import WeightsMissing
from prompts.messages import Message
from retrieval.errors import QuestionError, UnknownCustomer
from retrieval.generations import Generations
from retrieval.reader import KnowledgeReader
from retrieval.records import Records
from retrieval.refresh import Refresher
from retrieval.search import Searcher
from retrieval.settings import CustomersSettings, RecordsSettings, RetrievalSettings, SourceSettings
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
        self.records = Records(CustomersSettings(path="customers.jsonl"), RecordsSettings(path="tickets.jsonl"), root)
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
    """Run coroutine tests, the suites' own too; pytest-asyncio's mark on a class warns about each plain test in it."""
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


# The retriever


def test_documents_carry_what_a_citation_needs(deployment: Deployment) -> None:
    found = TandemRetriever(searcher=deployment.searcher, k=1).invoke(QUESTION)[0]
    assert found.page_content == EXPORT
    assert found.id == found.metadata["chunk"]
    about = [found.metadata[key] for key in ("source", "document", "title", "heading", "url", "generation")]
    assert about == ["help", "export.md", "Export", "", None, "g000001"]
    assert found.metadata["score"] > 0 and 0 < found.metadata["similarity"] <= 1


def sources(deployment: Deployment, **fields: Any) -> set[str]:
    found = TandemRetriever(searcher=deployment.searcher, k=20, **fields).invoke(QUESTION)
    return {f"{d.metadata['source']}/{d.metadata['document']}" for d in found}


PUBLIC = {f"help/{name}" for name in DOCUMENTS}


def test_a_customer_gets_the_own_tickets_only(deployment: Deployment) -> None:
    assert sources(deployment) == PUBLIC
    assert sources(deployment, customer_id="cus_1") == PUBLIC | {"tickets/t1"}
    assert sources(deployment, customer_id="cus_2") == PUBLIC | {"tickets/t2"}
    assert sources(deployment, customer_id="cus_3") == PUBLIC  # nobody's id: a visitor
    assert sources(deployment, audience="internal") == PUBLIC | {"staff/refunds.md"}


def test_a_ticket_keeps_the_keys_and_stands_where_its_similarity_puts_it(deployment: Deployment) -> None:
    retriever = TandemRetriever(searcher=deployment.searcher, customer_id="cus_1", k=4)
    found = retriever.invoke("Export of customer 1 fails: the export of my data stops at 1 percent.")
    assert len(found) == 4
    assert found[0].id == "tickets/t1"
    assert set(found[0].metadata) >= set(found[1].metadata)
    assert retriever.invoke("You reset your password on the sign-in page.")[0].metadata["document"] == "password.md"


def test_a_call_cannot_change_who_asks(deployment: Deployment) -> None:
    retriever = TandemRetriever(searcher=deployment.searcher, customer_id="cus_1")
    for option in ({"customer_id": "cus_2"}, {"audience": "internal"}):
        with pytest.raises(TypeError, match="unexpected keyword"):
            retriever.invoke(QUESTION, None, **option)


@pytest.mark.anyio
async def test_k(deployment: Deployment) -> None:
    retriever = TandemRetriever(searcher=deployment.searcher)
    assert len(retriever.invoke(QUESTION)) == 4
    assert len(await retriever.ainvoke(QUESTION, None, k=2)) == 2
    with pytest.raises(UnsupportedInput, match="at least one"):
        retriever.invoke(QUESTION, None, k=0)
    with pytest.raises(ValidationError):
        TandemRetriever(searcher=deployment.searcher, k=0)


def test_from_settings(tmp_path: Path) -> None:
    write_documents(tmp_path / "help", DOCUMENTS)
    config = tmp_path / "tandem.toml"
    config.write_text(
        """
        [[sources]]
        name = "help"
        path = "help"
        [retrieval]
        embedder = "langchain_core.embeddings.DeterministicFakeEmbedding"
        embedder_options = { size = 16 }
        top_k = 2
        [bot]
        model = "openai:some-model"
        base_url = "http://127.0.0.1:9/v1"
        max_tokens = 33
        """
    )
    build_refresher(load_settings(config)).refresh()
    retriever = TandemRetriever.from_settings(config)
    assert len(retriever.invoke(QUESTION)) == 2
    assert len(TandemRetriever.from_settings(load_settings(config), k=3).invoke(QUESTION)) == 3
    model = TandemChatModel.from_settings(config, temperature=0.5)
    assert (model.model.name, model.max_tokens, model.temperature) == ("openai:some-model", 33, 0.5)


# The chat model


def test_messages_are_mapped_joined_and_neutralised() -> None:
    model = ScriptedModel("Hi.")
    blocks: list[str | dict[str, Any]] = ["One <|im_", {"type": "text", "text": "end|> two"}]
    TandemChatModel(model=model).invoke([SystemMessage("Be brief."), AIMessage("Hello."), HumanMessage(blocks)])
    assert model.asked[-1] == (
        Message("system", "Be brief."), Message("assistant", "Hello."), Message("user", "One < |im_end|> two")
    )  # fmt: skip


CALL = {"name": "look_up", "args": {}, "id": "1"}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([HumanMessage([{"type": "image", "url": "https://example.com/a.png"}])], "block of type 'image'"),
        ([HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}])], "'image_url'"),
        ([HumanMessage([{"type": "text", "text": "See:"}, {"type": "file", "file_id": "f"}])], "'file'"),
        ([HumanMessage("Hi"), ToolMessage("42", tool_call_id="1")], "type 'tool'"),
        ([HumanMessage("Hi"), AIMessage("", tool_calls=[CALL])], "tool call"),
        ([], "no message"),
    ],
)
@pytest.mark.anyio
async def test_what_is_not_text_is_a_clear_error(messages: list[Any], reason: str) -> None:
    model = ScriptedModel("Hi.")
    tandem = TandemChatModel(model=model)
    with pytest.raises(UnsupportedInput, match=reason):
        tandem.invoke(messages)
    with pytest.raises(UnsupportedInput, match=reason):
        _ = [chunk async for chunk in tandem.astream(messages)]
    assert model.asked == []


def test_options_it_cannot_honour() -> None:
    tandem = TandemChatModel(model=ScriptedModel("Hi."))
    refused: list[dict[str, Any]] = [{"tools": [{}]}, {"response_format": {"type": "json"}}, {"model": "another"}]
    for option in refused:
        with pytest.raises(UnsupportedInput, match=next(iter(option))):
            tandem.invoke("Hello", **option)
    for name, value in (("max_tokens", 0), ("temperature", -1)):
        with pytest.raises(UnsupportedInput, match="cannot be used"):
            tandem.invoke("Hello", **{name: value})
    assert tandem.invoke("Hello", model="scripted", tools=[]).text == "Hi."
    with pytest.raises(NotImplementedError):
        tandem.bind_tools([])


def test_sampling_comes_from_the_fields_and_the_call() -> None:
    model = ScriptedModel("Hi.")
    tandem = TandemChatModel(model=model, max_tokens=50, temperature=0.7)
    tandem.invoke("Hello")
    tandem.bind(max_tokens=9, temperature=0.0).invoke("Hello")
    assert [(s.max_tokens, s.temperature) for s in model.samplings] == [(50, 0.7), (9, 0.0)]


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_a_stop_string_ends_the_text_and_closes_the_stream(piece: int) -> None:
    model = ScriptedModel("One. Two. STOP Three. " + "More. " * 40, piece=piece)
    tandem = TandemChatModel(model=model, stop=["More"])
    answer = tandem.invoke("Hello", stop=["STOP", "never"])
    assert answer.text == "One. Two. "
    assert answer.response_metadata["finish_reason"] == "stop"
    assert model.closed_early
    assert tandem.invoke("Hello").text == "One. Two. STOP Three. "
    assert tandem.invoke("Hello", stop=[]).text.endswith("More. ")  # the call wins, also with none
    assert model.finished == 1


TEXTS = st.text("ab.", max_size=12)


@given(TEXTS, st.lists(st.text("ab.", max_size=4), max_size=3), st.lists(st.integers(0, 12), max_size=6))
def test_where_pieces_are_cut_does_not_matter(text: str, stop: list[str], cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    shown = list(until_stop(pieces, stop))
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s and s in text]
    assert "".join(shown) == (text[: min(ends)[1]] if ends else text)
    assert all(shown)


def test_usage_and_model_name_are_the_same_streamed_or_not() -> None:
    tandem = TandemChatModel(model=ScriptedModel("A longer answer."))
    whole = tandem.invoke("Hello")
    chunks = list(tandem.stream("Hello"))
    added = chunks[0]
    for chunk in chunks[1:]:
        added += chunk
    assert added.text == whole.text == "A longer answer."
    assert added.usage_metadata == whole.usage_metadata == {"input_tokens": 6, "output_tokens": 5, "total_tokens": 11}
    assert added.response_metadata == whole.response_metadata
    assert whole.response_metadata == {"model_name": "scripted", "finish_reason": "stop"}
    assert tandem.invoke("Hello", max_tokens=5).response_metadata["finish_reason"] == "length"
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]


def test_a_silent_model_gives_an_empty_message() -> None:
    answer = TandemChatModel(model=ScriptedModel("")).invoke("Hello")
    assert isinstance(answer, AIMessage) and answer.text == ""


@pytest.mark.anyio
async def test_who_stops_listening_stops_the_model() -> None:
    model = ScriptedModel("word " * 1000, delay=0.001)
    stream = TandemChatModel(model=model).stream("Hello")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert model.closed_early

    task = asyncio.create_task(TandemChatModel(model=model).ainvoke("Hello", stream=True))
    await asyncio.sleep(0.05)
    assert not model.closed_early
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.closed_early and model.finished == 0


def test_it_works_in_a_chain_and_counts_tokens() -> None:
    model = ScriptedModel(lambda messages: messages[-1].content.upper())
    tandem = TandemChatModel(model=model)
    chain = ChatPromptTemplate.from_messages([("system", "Shout."), ("human", "{text}")]) | tandem | StrOutputParser()
    assert chain.batch([{"text": "ab"}, {"text": "cd"}]) == ["AB", "CD"]
    assert [text for text in chain.stream({"text": "abcdefgh"}) if text] == ["ABCD", "EFGH"]
    history = [SystemMessage("Shout."), HumanMessage("word " * 50), AIMessage("ok"), HumanMessage("hi")]
    kept = trim_messages(history, max_tokens=30, token_counter=tandem, include_system=True)
    assert [message.type for message in kept] == ["system", "ai", "human"]
    assert tandem.get_num_tokens("word") == 2
    assert tandem.profile is not None and tandem.profile["max_input_tokens"] == 8192


def test_a_cache_tells_settings_apart() -> None:
    cache, model = InMemoryCache(), ScriptedModel("One. Two.")
    for _ in range(2):
        assert TandemChatModel(model=model, cache=cache).invoke("Hello").text == "One. Two."
        assert TandemChatModel(model=model, cache=cache, stop=["Two"]).invoke("Hello").text == "One. "
        assert TandemChatModel(model=model, cache=cache, max_tokens=7).invoke("Hello").text == "One. Two."
    assert len(model.asked) == 3


@pytest.mark.slow
def test_real_weights(tmp_path: Path) -> None:
    try:
        weights.chat_model_folder()
    except WeightsMissing as error:
        pytest.skip(str(error))
    config = tmp_path / "tandem.toml"
    config.write_text("[bot]\nmax_tokens = 24\n")
    tandem = TandemChatModel.from_settings(config)
    whole = tandem.invoke([SystemMessage("Answer in one sentence."), HumanMessage("What is the capital of France?")])
    assert "Paris" in whole.text
    streamed = list(tandem.stream([("system", "Answer in one sentence."), ("human", "What is the capital of France?")]))
    assert "".join(chunk.text for chunk in streamed) == whole.text
    cut = tandem.invoke(
        [("system", "Answer in one sentence."), ("human", "What is the capital of France?")], stop=["Par"]
    )
    assert cut.text == whole.text.split("Par")[0]
    assert whole.usage_metadata is not None and whole.usage_metadata["output_tokens"] <= 24
    assert whole.response_metadata["model_name"] == tandem.model.name


# The whole bot


def lasting(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("conversation_id", "turn_id", "milliseconds")}


def test_invoke_gives_the_answers_fields(deployment: Deployment) -> None:
    bot = deployment.bot(ScriptedModel(EXPORT + "\n\n"))
    answer = as_runnable(bot).invoke(QUESTION)
    assert set(answer) == set(Answer.__slots__)
    assert lasting(answer) == lasting(asdict(bot.answer(QUESTION)) | {"citations": answer["citations"]})
    assert answer["text"].startswith(EXPORT[:-1]) and answer["action"] == "answer"
    assert [c["document"] for c in answer["citations"]] == ["export.md"]
    assert json.loads(json.dumps(answer)) == answer
    assert deployment.turns.turn(answer["turn_id"], Caller()).question == QUESTION


@pytest.mark.anyio
async def test_streamed_chunks_add_up_to_the_answer(deployment: Deployment) -> None:
    reply = f"{EXPORT} Invoices are sent by e-mail on the first day of each month.\n"
    runnable = as_runnable(deployment.bot(ScriptedModel(reply)))
    whole = await runnable.ainvoke(QUESTION)
    for chunks in (list(runnable.stream(QUESTION)), [chunk async for chunk in runnable.astream(QUESTION)]):
        assert len(chunks) > 2
        assert all(set(chunk) == {"text"} and chunk["text"] for chunk in chunks[:-1])
        assert set(chunks[-1]) == set(Answer.__slots__)
        added = chunks[0]
        for chunk in chunks[1:]:
            added = added + chunk  # type: ignore[operator]
        assert lasting(added) == lasting(whole)
    assert "".join(runnable.pick("text").stream(QUESTION)) == whole["text"]


def test_batch_keeps_the_order(deployment: Deployment) -> None:
    runnable = as_runnable(deployment.bot(ScriptedModel(EXPORT)))
    answers = runnable.batch([QUESTION, {"question": "I want to talk to a person."}, {"question": QUESTION}])
    assert [answer["action"] for answer in answers] == ["answer", "handoff", "answer"]
    assert len({answer["conversation_id"] for answer in answers}) == 3


def test_it_takes_a_question_from_a_chain(deployment: Deployment) -> None:
    runnable = as_runnable(deployment.bot(ScriptedModel(EXPORT)))

    def written(_: Any) -> Iterator[str]:
        yield from ("How do I ", "export my data?")

    assert (RunnableLambda(written) | runnable).invoke("")["action"] == "answer"
    chain = {"question": RunnablePassthrough()} | runnable
    assert chain.invoke(QUESTION)["action"] == "answer"
    assert "question" in json.dumps(runnable.get_input_jsonschema())
    assert runnable.get_output_jsonschema()["type"] == "object"


def test_a_customers_record_and_conversation(deployment: Deployment) -> None:
    model = ScriptedModel(EXPORT)
    runnable = as_runnable(deployment.bot(model))
    first = runnable.invoke({"question": QUESTION, "customer_id": "cus_1"})
    runnable.invoke({"question": "Where is the export?", "conversation_id": first["conversation_id"]})
    runnable.invoke({"question": QUESTION, "mode": "finetuned"})
    prompts = ["\n".join(message.content for message in asked) for asked in model.asked]
    assert "Ada" in prompts[0] and "customer 1" in prompts[0]
    assert "Bob" not in prompts[0] and "customer 2" not in prompts[0]
    assert QUESTION in prompts[1] and "Ada" in prompts[1]
    assert "Settings, Export" not in prompts[2] and "Ada" not in prompts[2]
    with pytest.raises(UnknownCustomer):
        runnable.invoke({"question": QUESTION, "customer_id": "cus_9"})


@pytest.mark.parametrize(
    "history",
    [
        [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Good day"}],
        [("human", "Hi there"), ("ai", "Good day")],
        [HumanMessage("Hi there"), AIMessage("Good day")],
        [Message("user", "Hi there"), Message("assistant", "Good day")],
    ],
)
def test_history_in_every_form(deployment: Deployment, history: list[Any]) -> None:
    model = ScriptedModel(EXPORT)
    as_runnable(deployment.bot(model)).invoke({"question": QUESTION, "history": history})
    assert model.asked[-1][1:3] == (Message("user", "Hi there"), Message("assistant", "Good day"))


def test_wrong_input_is_an_error_that_does_not_repeat_it(deployment: Deployment) -> None:
    model = ScriptedModel(EXPORT)
    runnable = as_runnable(deployment.bot(model))
    wrong: list[Any] = [
        {"question": "secret", "customer": "cus_1"}, {"question": "secret", "mode": "best"}, {"text": "secret"}, 7
    ]  # fmt: skip
    for value in wrong:
        with pytest.raises(ValidationError) as error:
            runnable.invoke(value)
        assert "secret" not in str(error.value)
    with pytest.raises(QuestionError):
        runnable.invoke("  ")
    with pytest.raises(UnsupportedInput):
        runnable.invoke({"question": QUESTION, "history": [ToolMessage("42", tool_call_id="1")]})
    assert model.asked == []


@pytest.mark.anyio
async def test_who_leaves_a_bots_stream_stops_the_model(deployment: Deployment) -> None:
    model = ScriptedModel(f"{EXPORT} " + "word " * 2000, delay=0.001)
    runnable = as_runnable(deployment.bot(model))
    stream = runnable.stream(QUESTION)
    assert next(stream)["text"]
    stream.close()  # type: ignore[attr-defined]
    assert model.closed_early

    task = asyncio.create_task(runnable.ainvoke(QUESTION))
    while len(model.asked) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.closed_early and model.finished == 0


def test_without_a_bot_it_is_the_settings_one(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = deployment.bot(ScriptedModel(EXPORT))
    monkeypatch.setattr(SupportBot, "from_settings", lambda: bot)
    assert as_runnable().invoke(QUESTION)["action"] == "answer"
