"""Say who asks: the customer comes from the token, never from the text or the body of a request."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from bot.errors import ConfigError, NotAllowed
from bot.settings import AuthSettings
from bot.turns import Caller

_MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: a key of the hash's size or larger


class Authenticator:
    """Check bearer tokens: HS256 with a shared secret, or an identity provider's key set."""

    def __init__(self, settings: AuthSettings, *, demo_secret: str | None = None) -> None:
        self._settings = settings
        configured = settings.jwt_secret.get_secret_value() if settings.jwt_secret else None
        if configured is not None and len(configured.encode()) < _MIN_SECRET_BYTES:
            raise ConfigError(f"TANDEM_AUTH_JWT_SECRET must have at least {_MIN_SECRET_BYTES} bytes.")
        self._secret = demo_secret or configured
        self._keys: Any = None
        if settings.jwks_url and not demo_secret:
            import jwt

            self._keys = jwt.PyJWKClient(settings.jwks_url, cache_keys=True, timeout=10)

    def caller(self, authorization: str | None) -> Caller:
        """Return the caller of a request from its Authorization header, or raise NotAllowed."""
        if authorization is None:
            return Caller()
        scheme, _, token = authorization.strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise NotAllowed("The Authorization header must be 'Bearer <token>'.")
        if token == "anonymous":
            return Caller()
        claims = self._claims(token)
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise NotAllowed("The token names nobody: its claim 'sub' is missing.")
        return Caller(subject, "internal" if claims.get("role") == "agent" else "public")

    def issue(self, subject: str, role: str | None) -> str:
        """Sign a token; the demo's sign-in only."""
        import jwt

        claims = {"sub": subject} | ({"role": role} if role else {})
        return jwt.encode(claims, str(self._secret), algorithm="HS256")

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        settings = self._settings
        options: Any = {"verify_aud": settings.audience is not None}
        try:
            if self._keys is not None:
                key = self._keys.get_signing_key_from_jwt(token).key
                algorithms = ["RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"]
            elif self._secret is not None:
                key, algorithms = self._secret, ["HS256"]
            else:
                raise NotAllowed("This server takes no tokens: leave the Authorization header out.")
            return jwt.decode(
                token, key, algorithms, audience=settings.audience, issuer=settings.issuer, options=options
            )
        except jwt.PyJWTError as error:
            raise NotAllowed("The token is invalid or has expired.") from error


def demo_secret(home: Path) -> str:
    """Return the demo's signing secret of this TANDEM_HOME, made at random on first use."""
    path = home / "demo-secret"
    home.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    secret = path.read_text(encoding="utf-8").strip()
    if len(secret) < _MIN_SECRET_BYTES:  # a killed first start
        path.unlink()
        return demo_secret(home)
    return secret
