"""The border to LangChain: our retriever, our model and our bot as its own interfaces.

retriever = TandemRetriever.from_settings()        # BaseRetriever: find
model = TandemChatModel.from_settings()            # BaseChatModel: write, without our prompts and checks
chain = as_runnable()                              # Runnable: the whole bot
"""

from bot.langchain.chat_model import TandemChatModel
from bot.langchain.messages import UnsupportedInput
from bot.langchain.retriever import TandemRetriever
from bot.langchain.runnable import as_runnable

__all__ = ["TandemChatModel", "TandemRetriever", "UnsupportedInput", "as_runnable"]
