"""The demo's sign-in: pick a sample customer without a password. Mounted by `--demo` alone."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from bot.schemas import SignInRequest
from retrieval.errors import QuestionError


def demo_routes() -> APIRouter:
    """Return the routes that list the sample customers and sign one in."""
    router = APIRouter(prefix="/demo")

    @router.get("/customers")
    def customers(request: Request) -> dict[str, Any]:
        listed = [
            {"customer_id": c.customer_id, "name": c.name}
            | {key: c.fields.get(key) for key in ("tier", "plan", "joined")}
            for c in request.app.state.bot.records.customers()
        ]
        return {"customers": listed}

    @router.post("/sign-in")
    def sign_in(body: SignInRequest, request: Request) -> dict[str, str]:
        auth = request.app.state.auth
        if body.role == "agent":
            return {"token": auth.issue("staff", "agent")}
        if body.customer_id is None or request.app.state.bot.records.find_customer(body.customer_id) is None:
            raise QuestionError("There is no such sample customer.")
        return {"token": auth.issue(body.customer_id, None)}

    return router
