"""
Who answers: one request is tried on account after account until one of them begins to.

An attempt ends in an `Opened` answer or in a `Failure`; `beginning.py` tells which. Until an answer has begun the
same bytes may go to another account; after it, never.

Some refusals are ours to repair on the same account: a token that expired, a member the backend does not take,
reasoning that another account encrypted. Each repair is tried once.
"""

import logging
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from accounts import quota, routing
from accounts.models import Access, Account, AccountsError, LoginRequired, Mark
from accounts.pool import AccountPool
from addon import beginning
from addon.call import Attempt, Call, Opened, Unserved
from addon.protocol import errors, sse, versions
from addon.protocol.errors import Cause, Failure
from addon.protocol.identity import Identity, request_headers
from addon.protocol.output import Output
from addon.provenance import Provenance
from addon.repairs import Learned, Repairs
from addon.sessions import Sessions
from addon.upstream.catalogue import Catalogue
from addon.upstream.http_sse import Reply, Upstream, UpstreamError

logger = logging.getLogger(__name__)

ACCOUNT_CAUSES = frozenset({Cause.LIMIT, Cause.LOGIN, Cause.ACCOUNT, Cause.MODEL})
"""Refusals that another account may not share, whatever their status."""

RENEWALS = 2
"""Tokens that are asked for at most because the one before was refused: the second time tells a dead login."""

REVOKED = frozenset({"token_invalidated", "token_revoked"})
"""What the backend says of a token whose login it has ended."""

NO_ACCOUNTS = (
    "No ChatGPT account is set up. Run `openai-auth login`, or `openai-auth import` with an auth.json, "
    "then send the request again."
)


@dataclass(slots=True)
class Dispatcher:
    """Sends calls."""

    pool: AccountPool
    upstream: Upstream
    url: Callable[[], str]
    identity: Callable[[], Identity]
    fallback_on: Callable[[], Collection[int]]
    sessions: Sessions
    provenance: Provenance
    catalogue: Catalogue
    openai_url: Callable[[], str]
    """The real API, for accounts that are API keys."""
    hold: Callable[[], float]
    """Seconds after which a stream is let go that gave no sign of success; 0: never."""
    learned: Learned = field(default_factory=Learned)

    async def open(self, call: Call) -> Opened:
        """Find an account that begins to answer. Raises Unserved."""
        attempts: list[Attempt] = []
        tried = {account.id for account in self.pool.accounts if not call.suits(account)}
        home = await self.provenance.home(call.compactions)
        while True:
            decision = self.pool.decide(self._request(call, frozenset(tried), home))
            if not decision.candidates:
                raise self._unserved(call, attempts, decision)
            candidate = min(decision.candidates, key=lambda each: self._unsuited(each, call))
            account = candidate.account
            if attempts:
                self._log_move(call, attempts[-1], account)
            tried.add(account.id)
            with ExitStack() as held:
                held.enter_context(self.pool.running(account, len(call.body)))
                result = await self._attempt(call, account)
                if isinstance(result, Opened):
                    result.attempts, result.held = attempts, held.pop_all()
                    result.held.callback(self._ended, account, call.session.key)
                    self.pool.served(account, call.session.key, candidate.pin)
                    return result
            attempts.append(result)
            if not self._moves_on(call, result):
                raise Unserved(result.failure, attempts, final=False)
            call.failed(result)

    def _unsuited(self, candidate: routing.Candidate, call: Call) -> tuple[bool, bool]:
        """Sorts accounts that lack the model behind those that have it, but never in front of a paid key."""
        paid = candidate.reason is routing.Why.API_KEY
        return paid, self.catalogue.lacks(candidate.account, call.model)

    @staticmethod
    def _log_move(call: Call, attempt: Attempt, account: Account) -> None:
        logger.warning("%s %s → %s (%s)", attempt.status, attempt.account.name, account.name, call.manner)

    def _request(self, call: Call, exclude: frozenset[str], home: str | None) -> routing.Request:
        return routing.Request(
            session=call.session.key,
            body_bytes=len(call.body),
            model=call.model,
            exclude=exclude,
            inflight=self.pool.inflight,
            home=home,
        )

    def _moves_on(self, call: Call, attempt: Attempt) -> bool:
        failure = attempt.failure
        if failure.cause is Cause.CLOUDFLARE:
            return False
        if failure.cause is Cause.CIPHERTEXT and call.compactions:
            return True  # thoughts are out by now: another account made the history
        return failure.cause in ACCOUNT_CAUSES or (failure.upstream_status or 0) in self.fallback_on()

    async def _attempt(self, call: Call, account: Account) -> Opened | Attempt:
        """Try one account, with the repairs that are ours."""
        try:
            access = await self.pool.access(account)
        except AccountsError as error:
            return _without_token(account, error)
        if account.type == "api_key":
            return await self._attempt_plain(call, account, access)
        repairs = Repairs(call.body, call.model, self.learned)
        repairs.drop(await self.provenance.foreign(call.ciphertexts, account))
        renewals, raised = 0, False
        while True:
            headers = self._headers(call, account, access)
            try:
                reply = await self.upstream.send(
                    "POST", self.url(), headers, repairs.body, fresh=repairs.fresh
                )
            except UpstreamError as error:
                if not error.sent and repairs.reconnect():
                    continue
                return Attempt(account, error.failure.status, error.failure)
            now = self.pool.clock()
            if numbers := quota.from_headers(reply.headers, now=now, account_id=account.account_id):
                self.pool.saw_quota(account, numbers)
            outcome = await self._outcome(call, account, reply)
            if isinstance(outcome, Opened):
                self.sessions.remember_turn_state(call.session, call.turn, account.id, reply.headers)
                self.catalogue.announced(account, reply.headers.get("x-models-etag"))
                outcome.stripped = tuple(repairs.stripped)
                return outcome
            if outcome.cause is Cause.LOGIN and renewals < RENEWALS:
                revoked = renewals > 0 and outcome.code in REVOKED
                renewals += 1
                try:
                    access = await self.pool.renew(account, access, revoked=revoked)
                except AccountsError as error:
                    return _without_token(account, error, outcome)
            elif not raised and await self._version_rises(call, account, outcome, headers["version"]):
                raised = True
            elif not await self._repair(call, account, repairs, outcome):
                self._mark(call, account, outcome)
                return Attempt(account, reply.status, outcome, reply.headers)

    async def _attempt_plain(self, call: Call, account: Account, access: Access) -> Opened | Attempt:
        """Try an API key: the client's own request at the real API, less what only another account can read."""
        assert call.plain
        url, headers = self.openai_url() + call.plain.path, call.plain.headers(access.token.reveal())
        repairs = Repairs(call.plain.content, call.model, Learned())
        repairs.drop(await self.provenance.foreign(call.ciphertexts, account))
        while True:
            try:
                reply = await self.upstream.send("POST", url, headers, repairs.body, fresh=repairs.fresh)
            except UpstreamError as error:
                if not error.sent and repairs.reconnect():
                    continue
                return Attempt(account, error.failure.status, error.failure)
            if 200 <= reply.status < 300:
                return Opened(account, reply, sse.Decoder(), [], verbatim=True)
            outcome = await self._outcome(call, account, reply)
            assert isinstance(outcome, Failure)
            sealed = outcome.cause is Cause.CIPHERTEXT and call.ciphertexts
            if sealed and await self._repair(call, account, repairs, outcome):
                continue
            if outcome.cause is Cause.LOGIN:
                try:
                    await self.pool.renew(account, access)
                except AccountsError as error:
                    return _without_token(account, error, outcome)
            self._mark(call, account, outcome)
            return Attempt(account, reply.status, outcome, reply.headers)

    async def _repair(self, call: Call, account: Account, repairs: Repairs, failure: Failure) -> bool:
        """Change what `failure` is about; all thoughts go only if nobody knows which of them are another's."""
        if failure.cause is Cause.CIPHERTEXT:
            foreign = await self.provenance.foreign(call.ciphertexts, account)
            if repairs.drop(foreign):
                return True
        return repairs.repair(failure)

    async def _version_rises(self, call: Call, account: Account, failure: Failure, sent: str) -> bool:
        """Whether the model was refused for the version we `sent`, and its catalogue entry asks for a newer one.

        The backend has three texts for this, two of which also say that the account may not use the model.
        """
        if failure.cause not in (Cause.VERSION, Cause.MODEL):
            return False
        await self.catalogue.learn(account, at_once=failure.cause is Cause.VERSION)
        return versions.is_newer(self.catalogue.version_for(call.model) or "", sent)

    def identity_for(self, call: Call) -> Identity:
        """Ours, with the newest protocol version that the client offered or the model asks for."""
        identity = self.identity()
        wanted = call.client_version, self.catalogue.version_for(call.model)
        return replace(identity, version=versions.newest(identity.version, wanted))

    def _headers(self, call: Call, account: Account, access: Access) -> dict[str, str]:
        headers = request_headers(
            call.turn,
            self.identity_for(call),
            lite=call.shaped.lite,
            kind=call.shaped.kind,
            turn_state=call.session.turn_states(call.turn).get(account.id),
        )
        headers["authorization"] = f"Bearer {access.token.reveal()}"
        if access.account_id:
            headers["chatgpt-account-id"] = access.account_id
        return headers

    async def _outcome(self, call: Call, account: Account, reply: Reply) -> Opened | Failure:
        hold = self.hold() if call.shaped.asked.stream else None
        return await beginning.outcome(account, reply, self.side_channel, hold=hold)

    def side_channel(self, account: Account, frame: sse.Frame) -> None:
        """What the backend tells the client program in a stream: never for the client, quota for us."""
        if frame.type == "codex.rate_limits":
            numbers = quota.from_frame(frame.json(), now=self.pool.clock(), account_id=account.account_id)
            if numbers:
                self.pool.saw_quota(account, numbers)
        elif frame.type == "codex.response.metadata":
            headers = frame.json().get("headers")
            etag = headers.get("x-models-etag") if isinstance(headers, dict) else None
            self.catalogue.announced(account, etag if isinstance(etag, str) else None)

    def _mark(self, call: Call, account: Account, failure: Failure) -> None:
        """Keep requests off a limit that the account said is used up, until its own reset."""
        if failure.cause is not Cause.LIMIT:
            return
        now, known = self.pool.clock(), self.pool.quotas.get(account.id)
        limit = quota.refused_limit(known, call.model, failure.limit)
        until = quota.mark_until(
            now, reset=failure.reset(now), label=failure.window, windows=quota.windows_of(known, limit)
        )
        self.pool.mark(account, Mark(until, failure.code or "rate_limit_exceeded", now, limit))

    def completed(self, call: Call, opened: Opened, output: Output) -> None:
        """The answer is whole: keep what later requests of the conversation need."""
        self.provenance.remember(output.items, opened.account)
        call.completed(opened.account, output)

    def unfinished(self, opened: Opened, output: Output) -> None:
        """The answer has not come to its end: what it had finished, the client may send back."""
        self.provenance.remember(output.items, opened.account)

    def _ended(self, account: Account, session: str) -> None:
        """The answer is over, however: the conversation's cache is warm from now on, not from its beginning."""
        pin = self.pool.pins.get(session)
        if pin and pin.account == account.id:
            self.pool.served(account, session, replace(pin, last_seen_at=time.time()))

    def interrupted(self, call: Call, account: Account, failure: Failure) -> None:
        """An answer that had begun broke off: nothing is replayed, but a limit counts for the next request."""
        self._mark(call, account, failure)

    def _unserved(self, call: Call, attempts: list[Attempt], decision: routing.Decision) -> Unserved:
        """What the client gets when nobody is left."""
        if not decision.skipped and not attempts:
            failure = errors.refuse(401, NO_ACCOUNTS, code="no_accounts", type="authentication_error").failure
            return Unserved(failure, attempts, final=True)
        logins = [skip for skip in decision.skipped if skip.reason is routing.Reason.LOGIN_REQUIRED]
        others = [
            skip
            for skip in decision.skipped
            if skip.reason
            not in (routing.Reason.LOGIN_REQUIRED, routing.Reason.DISABLED, routing.Reason.EXCLUDED)
        ]
        dead = [attempt for attempt in attempts if attempt.failure.code == "login_required"]
        if len(dead) == len(attempts) and not others and (logins or dead):
            names = sorted(
                {skip.account.name for skip in logins} | {attempt.account.name for attempt in dead}
            )
            message = (
                f"The login of {', '.join(names)} is no longer valid. Run `openai-auth login` for each account "
                "that shall serve again."
            )
            failure = errors.refuse(401, message, code="login_required", type="authentication_error").failure
            return Unserved(failure, attempts, final=True)
        bound = [skip for skip in decision.skipped if skip.reason is routing.Reason.FOREIGN_HISTORY]
        if attempts:
            last = ([each for each in attempts if each.failure.cause is Cause.LIMIT] or attempts)[-1]
            logger.warning(
                "%s %s: no other account may serve (%s)", last.status, last.account.name, call.manner
            )
            failure = last.failure
            if failure.cause is Cause.LIMIT and decision.retry_at:
                failure = replace(failure, resets_at=decision.retry_at, retry_after=None)
            if bound:
                told = "; ".join((failure.message.rstrip("."), *(skip.detail for skip in bound)))
                failure = replace(failure, message=f"{told}.")
            return Unserved(failure, attempts, final=True)
        details = "; ".join(
            skip.detail for skip in decision.skipped if skip.reason is not routing.Reason.EXCLUDED
        )
        failure = Failure(
            status=429,
            message=f"No account may serve this request now: {details}.",
            type="rate_limit_exceeded",
            code="rate_limit_exceeded",
            param=None,
            cause=Cause.LIMIT,
            resets_at=decision.retry_at,
            retry_after=None if decision.retry_at else routing.DEFAULT_RETRY_AFTER,
        )
        return Unserved(failure, attempts, final=True)


def _without_token(account: Account, error: AccountsError, failure: Failure | None = None) -> Attempt:
    """The account has no token to send: its login is dead, or cannot be renewed just now."""
    if isinstance(error, LoginRequired):
        refusal = errors.refuse(401, str(error), code="login_required", type="authentication_error").failure
        return Attempt(account, 401, replace(refusal, cause=Cause.LOGIN))
    refusal = errors.refuse(503, str(error), code="refresh_failed", type="server_error").failure
    status = failure.upstream_status if failure else None
    return Attempt(account, status or 503, replace(refusal, cause=Cause.ACCOUNT))
