"""Keys, signed credentials and join tokens.

Trust.  Every daemon has a CURVE key pair of its own; there is no cluster-wide secret.  A node knows the controller's
public key before it connects (`--controller-key`), so CURVE tells it that it talks to the controller.  The controller
knows the public keys of its members (the allow list, journaled); an unknown key may be presented only together with
a join token, see `helix.wire.transport`.  The controller also has an Ed25519 key: what a node may start is signed
with it, for that node, that cluster, that epoch and a short time, and each credential is good once.

Secrets live in files of mode 0600 that only their owner (or root) can have written; others are refused.  Comparing
and verifying is done by libraries in constant time.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass

import msgspec
import zmq
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct
from zmq.utils import z85

from helix.errors import ConfigError, Denied, NotFound, ProtocolError
from helix.wire.messages import Credential, SignedBatch

SECRET_FILE_MAX = 1 << 20
CREDENTIAL_BYTES_MAX = 32 << 20
JOIN_TOKENS_MAX = 1000  #: valid tokens at once
CLOCK_EARLY_MAX_S = 300.0  #: how far in the future a credential may claim to be issued
_CURVE_HEAD = "helix-curve-1"
_SIGNING_HEAD = "helix-ed25519-1"
_TOKEN_PREFIX = "hxj1-"  # noqa: S105 - not a secret
_DOMAIN = b"helix credential 1\0"  # so that a signature can never be taken for one of another kind


# ---- files of secrets ----------------------------------------------------------------------------------------------


def read_secret(path: str) -> bytes:
    """The content of a secret file.

    Raises NotFound (SECRET_MISSING), ConfigError (SECRET_UNSAFE) if it is a link, not a plain file, open to group or
    others, or owned by neither root nor this process.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise NotFound(f"{path}: no such file", code="SECRET_MISSING") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}", code="SECRET_UNSAFE") from exc
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{path}: not a plain file", code="SECRET_UNSAFE")
        if info.st_mode & 0o077:
            raise ConfigError(
                f"{path}: a secret that others can read (mode {stat.S_IMODE(info.st_mode):04o})",
                code="SECRET_UNSAFE",
                hint=f"chmod 600 {path}; if others had access, make a new one",
            )
        if info.st_uid not in (0, os.geteuid()):
            raise ConfigError(f"{path}: owned by uid {info.st_uid}", code="SECRET_UNSAFE", hint=f"chown it: {path}")
        if info.st_size > SECRET_FILE_MAX:
            raise ConfigError(f"{path}: {info.st_size} bytes is too much for a secret", code="SECRET_UNSAFE")
        return os.read(fd, SECRET_FILE_MAX)
    finally:
        os.close(fd)


def write_secret(path: str, data: bytes, *, replace: bool = False) -> None:
    """Write a secret file, mode 0600, durably and at once.  Raises FileExistsError unless `replace`."""
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o600)
            file.write(data)
            file.flush()
            os.fsync(fd)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


# ---- CURVE keys ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """A CURVE key pair, Z85 text of 40 characters each.  The secret never shows in a repr."""

    public: str
    secret: bytes

    def __repr__(self) -> str:
        return f"CurveKeys({self.public})"


def new_curve_keys() -> CurveKeys:
    """A fresh pair."""
    public, secret = zmq.curve_keypair()
    return CurveKeys(public.decode(), secret)


def load_curve_keys(path: str) -> CurveKeys:
    """The pair kept in `path`.  Raises as `read_secret`, and ConfigError (SECRET_MALFORMED)."""
    lines = read_secret(path).decode("ascii", "replace").split()
    if len(lines) == 3 and lines[0] == _CURVE_HEAD and is_curve_key(lines[1]) and is_curve_key(lines[2]):
        keys = CurveKeys(lines[1], lines[2].encode())
        if hmac.compare_digest(zmq.curve_public(keys.secret), keys.public.encode()):
            return keys
    raise ConfigError(f"{path}: not a CURVE key file", code="SECRET_MALFORMED", hint="restore it, or remove it")


def load_or_create_curve_keys(path: str) -> CurveKeys:
    """The pair kept in `path`, made there first if nothing is there."""
    with contextlib.suppress(NotFound):
        return load_curve_keys(path)
    keys = new_curve_keys()
    with contextlib.suppress(FileExistsError):  # another process was faster: theirs counts
        write_secret(path, f"{_CURVE_HEAD}\n{keys.public}\n{keys.secret.decode()}\n".encode())
    return load_curve_keys(path)


def is_curve_key(text: str) -> bool:
    """True for 40 characters of Z85 (ZeroMQ RFC 32)."""
    if len(text) != 40 or not text.isascii():
        return False
    try:
        return len(z85.decode(text.encode())) == 32
    except (ValueError, KeyError):
        return False


# ---- Ed25519 -------------------------------------------------------------------------------------------------------


def load_or_create_signing_key(path: str) -> Ed25519PrivateKey:
    """The controller's signing key kept in `path`, made there first if nothing is there."""
    with contextlib.suppress(NotFound):
        return _load_signing_key(path)
    seed = secrets.token_bytes(32)
    with contextlib.suppress(FileExistsError):
        write_secret(path, f"{_SIGNING_HEAD}\n{seed.hex()}\n".encode())
    return _load_signing_key(path)


def _load_signing_key(path: str) -> Ed25519PrivateKey:
    lines = read_secret(path).decode("ascii", "replace").split()
    if len(lines) == 2 and lines[0] == _SIGNING_HEAD and len(lines[1]) == 64:
        with contextlib.suppress(ValueError):
            return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(lines[1]))
    raise ConfigError(f"{path}: not a signing key file", code="SECRET_MALFORMED", hint="restore it, or remove it")


def verify_key_bytes(key: Ed25519PrivateKey) -> bytes:
    """The public half, 32 bytes, as `Registered.verify_key` carries it."""
    return key.public_key().public_bytes_raw()


@dataclass(frozen=True, slots=True)
class Identity:
    """A daemon's keys.  `signing` is the controller's only."""

    curve: CurveKeys
    signing: Ed25519PrivateKey | None = None

    @property
    def verify_key(self) -> bytes:
        """What nodes verify credentials with; empty on a node."""
        return verify_key_bytes(self.signing) if self.signing else b""


def load_or_create_identity(folder: str, *, signing: bool) -> Identity:
    """Keys in `folder` (made 0700 if missing): `curve.key` and, with `signing`, `signing.key`."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    curve = load_or_create_curve_keys(os.path.join(folder, "curve.key"))
    key = load_or_create_signing_key(os.path.join(folder, "signing.key")) if signing else None
    return Identity(curve, key)


# ---- credentials ---------------------------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder()
_credentials = msgspec.msgpack.Decoder(Credential)


class NonceWindow:
    """Which nonces a node has seen: the newest `size` of the present epoch; older ones count as seen.

    A higher epoch starts anew and voids the lower ones.
    """

    __slots__ = ("_bits", "_highest", "epoch", "size")

    def __init__(self, size: int = 65536) -> None:
        self.size = size
        self.epoch = 0
        self._highest = -1
        self._bits = 0  # bit k: nonce `_highest - k` was seen

    def is_fresh(self, epoch: int, nonce: int) -> bool:
        """True if `mark` would be the first."""
        if epoch != self.epoch:
            return epoch > self.epoch
        behind = self._highest - nonce
        return behind < 0 or (behind < self.size and not self._bits >> behind & 1)

    def mark(self, epoch: int, nonce: int) -> bool:
        """Note it; False if it was seen before or is too old to tell."""
        if not self.is_fresh(epoch, nonce):
            return False
        if epoch > self.epoch:
            self.epoch, self._highest, self._bits = epoch, nonce, 1
            return True
        ahead = nonce - self._highest
        if ahead <= 0:
            self._bits |= 1 << -ahead
        else:
            keep = (1 << self.size - ahead) - 1 if ahead < self.size else 0
            self._bits = (self._bits & keep) << ahead | 1 if keep else 1
            self._highest = nonce
        return True


def sign_credential(credential: Credential, key: Ed25519PrivateKey) -> SignedBatch:
    """Encode and sign."""
    data = _encoder.encode(credential)
    return SignedBatch(data, key.sign(_DOMAIN + data))


def verify_credential(
    batch: SignedBatch,
    public_key: bytes | Ed25519PublicKey,
    *,
    audience: str,
    cluster: str,
    epoch_min: int,
    nonce_seen: NonceWindow,
    now: float,
) -> Credential:
    """Check everything, the signature before a byte is decoded, and note the nonce.

    `audience` is the name this link registered with, `epoch_min` the highest epoch it has seen, `now` the time by the
    controller's clock as the node estimates it (epoch seconds).
    Raises Denied (CREDENTIAL_SIGNATURE, _CLUSTER, _AUDIENCE, _EPOCH, _EXPIRED, _EARLY, _REPLAYED) or ProtocolError
    (CREDENTIAL_MALFORMED); nothing is noted then.
    """
    if len(batch.credential) > CREDENTIAL_BYTES_MAX:
        raise ProtocolError(f"a credential of {len(batch.credential)} bytes", code="CREDENTIAL_MALFORMED")
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key) if isinstance(public_key, bytes) else public_key
        key.verify(batch.signature, _DOMAIN + batch.credential)
    except (InvalidSignature, ValueError) as exc:
        raise Denied("a credential that the controller did not sign", code="CREDENTIAL_SIGNATURE") from exc
    try:
        credential = _credentials.decode(batch.credential)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as exc:
        raise ProtocolError(f"a credential that cannot be decoded: {exc}", code="CREDENTIAL_MALFORMED") from exc
    if credential.cluster != cluster:
        raise Denied(f"a credential for cluster '{credential.cluster}'", code="CREDENTIAL_CLUSTER")
    if credential.audience != audience:
        raise Denied(f"a credential for '{credential.audience}', not '{audience}'", code="CREDENTIAL_AUDIENCE")
    if credential.epoch < epoch_min:
        raise Denied(f"a credential of epoch {credential.epoch}; epoch {epoch_min} has begun", code="CREDENTIAL_EPOCH")
    if now >= credential.t_expires:
        raise Denied(
            f"a credential that expired {now - credential.t_expires:.0f} s ago",
            code="CREDENTIAL_EXPIRED",
            hint="compare the clocks of node and controller",
        )
    if credential.t_issued > now + CLOCK_EARLY_MAX_S:
        raise Denied(
            f"a credential issued {credential.t_issued - now:.0f} s in the future",
            code="CREDENTIAL_EARLY",
            hint="compare the clocks of node and controller",
        )
    if not nonce_seen.mark(credential.epoch, credential.nonce):
        raise Denied(f"credential {credential.nonce} was used before", code="CREDENTIAL_REPLAYED")
    return credential


# ---- join tokens ---------------------------------------------------------------------------------------------------


class JoinToken(Struct, omit_defaults=True):
    """What the controller keeps of a token: never the token itself."""

    digest: str  # sha256 of the token, hex; the token has 256 random bits, so no salt or stretching is needed
    t_created: float
    t_expires: float
    uses: int = 1  # joins still allowed
    comment: str = ""


class JoinTokens:
    """The controller's valid join tokens, kept in one file of mode 0600."""

    def __init__(self, path: str) -> None:
        """Read `path` if it is there.  Raises as `read_secret`, and ConfigError (SECRET_MALFORMED)."""
        self._path = path
        self._tokens: list[JoinToken] = []
        try:
            data = read_secret(path)
        except NotFound:
            return
        try:
            self._tokens = msgspec.json.decode(data, type=list[JoinToken])
        except (msgspec.DecodeError, RecursionError) as exc:
            raise ConfigError(f"{path}: not a file of join tokens", code="SECRET_MALFORMED") from exc

    def create(self, now: float, *, ttl_s: float = 3600.0, uses: int = 1, comment: str = "") -> str:
        """A new token, durable when this returns.  It cannot be shown again."""
        self._expire(now)
        if len(self._tokens) >= JOIN_TOKENS_MAX:
            raise Denied(f"{JOIN_TOKENS_MAX} join tokens are valid already", code="JOIN_TOKENS_FULL")
        if ttl_s <= 0 or uses < 1:
            raise ValueError("a join token needs a time to live and at least one use")
        token = _TOKEN_PREFIX + secrets.token_hex(32)
        self._tokens.append(JoinToken(_digest(token), now, now + ttl_s, uses, comment))
        self._save()
        return token

    def redeem(self, token: str, now: float) -> JoinToken:
        """Use `token` once; durable when this returns.  Raises Denied (JOIN_TOKEN_REFUSED) without saying why."""
        self._expire(now)
        digest = _digest(token)
        found: JoinToken | None = None
        for entry in self._tokens:  # all of them: the time taken tells nothing
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        if found is None:
            raise Denied(
                "the join token is not valid (unknown, used up or expired)",
                code="JOIN_TOKEN_REFUSED",
                hint="ask the administrator for a new one",
            )
        found.uses -= 1
        self._expire(now)
        self._save()
        return found

    def is_open(self, now: float) -> bool:
        """True while any token is valid: only then are unknown keys let in to present one."""
        return any(entry.uses > 0 and entry.t_expires > now for entry in self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def _expire(self, now: float) -> None:
        self._tokens = [entry for entry in self._tokens if entry.uses > 0 and entry.t_expires > now]

    def _save(self) -> None:
        write_secret(self._path, json.dumps(msgspec.to_builtins(self._tokens), indent=1).encode(), replace=True)


def read_join_token(path: str) -> str:
    """The token in a file of mode 0600 (`helixd --join-token-file`).  Raises as `read_secret`."""
    token = read_secret(path).decode("ascii", "replace").strip()
    if not token.startswith(_TOKEN_PREFIX) or len(token) != len(_TOKEN_PREFIX) + 64:
        raise ConfigError(f"{path}: not a join token", code="SECRET_MALFORMED")
    return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


# ---- who is a member -----------------------------------------------------------------------------------------------


class AllowList:
    """Admitted CURVE keys and the one name each owns.  Filled from the journal (`NodeKeyAdmitted`)."""

    def __init__(self, members: dict[str, str] | None = None) -> None:
        """`members`: name -> key (Z85)."""
        self._name_of: dict[str, str] = {}
        self._key_of: dict[str, str] = {}
        for name, key in (members or {}).items():
            self.admit(name, key)

    def admit(self, name: str, key: str) -> str:
        """`key` owns `name` from now on; returns the key that owned it before ("" if none)."""
        if not is_curve_key(key):
            raise ConfigError(f"'{key}' is not a CURVE public key", code="KEY_MALFORMED")
        before = self._key_of.get(name, "")
        if before and before != key:
            del self._name_of[before]
        other = self._name_of.get(key)
        if other is not None and other != name:
            del self._key_of[other]
        self._name_of[key] = name
        self._key_of[name] = key
        return "" if before == key else before

    def revoke(self, name: str) -> str:
        """`name` has no key any more; returns the key it had ("" if none)."""
        key = self._key_of.pop(name, "")
        self._name_of.pop(key, None)
        return key

    def name_of(self, key: str) -> str | None:
        """The name `key` owns; None if it is not admitted."""
        return self._name_of.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._name_of

    def __len__(self) -> int:
        return len(self._name_of)


__all__ = [
    "AllowList",
    "CurveKeys",
    "Identity",
    "JoinToken",
    "JoinTokens",
    "NonceWindow",
    "SignedBatch",
    "is_curve_key",
    "load_curve_keys",
    "load_or_create_curve_keys",
    "load_or_create_identity",
    "load_or_create_signing_key",
    "new_curve_keys",
    "read_join_token",
    "read_secret",
    "sign_credential",
    "verify_credential",
    "verify_key_bytes",
    "write_secret",
]
