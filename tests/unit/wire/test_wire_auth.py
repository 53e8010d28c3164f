"""Keys on disk, credentials and join tokens: each refusal has its own test."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from helix.errors import ConfigError, Denied, HelixError, NotFound, ProtocolError
from helix.wire.auth import (
    AllowList,
    JoinTokens,
    NonceWindow,
    is_curve_key,
    load_curve_keys,
    load_or_create_curve_keys,
    load_or_create_identity,
    load_or_create_signing_key,
    new_curve_keys,
    read_join_token,
    read_secret,
    sign_credential,
    verify_credential,
    verify_key_bytes,
    write_secret,
)
from helix.wire.messages import Credential, Launch, SignedBatch

NOW = 1_800_000_000.0
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = verify_key_bytes(KEY)


def credential(**changes: object) -> Credential:
    fields: dict[str, object] = {
        "audience": "n1",
        "cluster": "c",
        "epoch": 3,
        "nonce": 10,
        "t_issued": NOW,
        "t_expires": NOW + 60,
        "launches": [Launch(job_id=1, attempt=0, node="n1", uid=1000, gid=1000)],
    }
    return Credential(**{**fields, **changes})  # type: ignore[arg-type]


def check(batch: SignedBatch, *, window: NonceWindow | None = None, now: float = NOW, epoch_min: int = 3) -> Credential:
    return verify_credential(
        batch,
        PUBLIC,
        audience="n1",
        cluster="c",
        epoch_min=epoch_min,
        nonce_seen=window if window is not None else NonceWindow(),
        now=now,
    )


# ---- credentials


def test_good_credential_gives_its_launches() -> None:
    assert check(sign_credential(credential(), KEY)) == credential()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"audience": "n2"}, "CREDENTIAL_AUDIENCE"),
        ({"audience": ""}, "CREDENTIAL_AUDIENCE"),
        ({"cluster": "other"}, "CREDENTIAL_CLUSTER"),
        ({"epoch": 2}, "CREDENTIAL_EPOCH"),
        ({"t_expires": NOW}, "CREDENTIAL_EXPIRED"),
        ({"t_expires": NOW - 1e9}, "CREDENTIAL_EXPIRED"),
        ({"t_issued": NOW + 301, "t_expires": NOW + 400}, "CREDENTIAL_EARLY"),
    ],
)
def test_credential_that_does_not_fit_is_refused_by_its_own_code(changes: dict[str, object], code: str) -> None:
    window = NonceWindow()
    with pytest.raises(Denied) as caught:
        check(sign_credential(credential(**changes), KEY), window=window)
    assert caught.value.code == code
    assert window.is_fresh(3, 10), "a refused credential must not use up its nonce"


def test_credential_of_a_later_epoch_is_taken() -> None:
    assert check(sign_credential(credential(epoch=4), KEY)).epoch == 4


def test_replayed_credential_is_refused() -> None:
    window = NonceWindow()
    batch = sign_credential(credential(), KEY)
    check(batch, window=window)
    with pytest.raises(Denied) as caught:
        check(batch, window=window)
    assert caught.value.code == "CREDENTIAL_REPLAYED"


def test_credential_of_another_key_is_refused() -> None:
    with pytest.raises(Denied) as caught:
        check(sign_credential(credential(), Ed25519PrivateKey.generate()))
    assert caught.value.code == "CREDENTIAL_SIGNATURE"


def test_every_changed_byte_is_noticed_before_decoding() -> None:
    batch = sign_credential(credential(), KEY)
    for at in range(0, len(batch.credential), 7):
        data = bytearray(batch.credential)
        data[at] ^= 1
        with pytest.raises(Denied) as caught:
            check(SignedBatch(bytes(data), batch.signature))
        assert caught.value.code == "CREDENTIAL_SIGNATURE"
    for signature in (b"", batch.signature[:-1], batch.signature + b"\0", bytes(64)):
        with pytest.raises(Denied):
            check(SignedBatch(batch.credential, signature))


def test_extended_credential_is_refused() -> None:
    batch = sign_credential(credential(), KEY)
    with pytest.raises(Denied):
        check(SignedBatch(batch.credential + b"\xc0", batch.signature))


def test_signature_of_the_bare_bytes_is_not_a_credential() -> None:
    data = msgspec.msgpack.encode(credential())
    with pytest.raises(Denied):
        check(SignedBatch(data, KEY.sign(data)))


def test_signed_garbage_is_a_protocol_error() -> None:
    data = b"\x93not a credential"
    with pytest.raises(ProtocolError) as caught:
        check(SignedBatch(data, KEY.sign(b"helix credential 1\0" + data)))
    assert caught.value.code == "CREDENTIAL_MALFORMED"


def test_malformed_public_key_refuses_everything() -> None:
    with pytest.raises(Denied):
        verify_credential(
            sign_credential(credential(), KEY),
            b"short",
            audience="n1",
            cluster="c",
            epoch_min=0,
            nonce_seen=NonceWindow(),
            now=NOW,
        )


# ---- nonces


def test_nonces_may_come_out_of_order_and_each_once() -> None:
    window = NonceWindow(size=8)
    assert [window.mark(1, n) for n in (5, 3, 4, 3, 5, 6)] == [True, True, True, False, False, True]


def test_nonces_older_than_the_window_count_as_seen() -> None:
    window = NonceWindow(size=8)
    assert window.mark(1, 100)
    assert window.mark(1, 93)
    assert not window.mark(1, 92)
    assert window.mark(1, 10_000)
    assert not window.mark(1, 100)


def test_higher_epoch_starts_anew_and_voids_the_lower() -> None:
    window = NonceWindow()
    assert window.mark(1, 7)
    assert window.mark(2, 7)
    assert not window.mark(1, 8)
    assert window.mark(2, 0)


# ---- files


def test_secret_is_written_once_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(str(path), b"abc")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(str(path)) == b"abc"
    with pytest.raises(FileExistsError):
        write_secret(str(path), b"other")
    write_secret(str(path), b"other", replace=True)
    assert read_secret(str(path)) == b"other"
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o610])
def test_secret_open_to_others_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    write_secret(str(path), b"abc")
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        read_secret(str(path))
    assert caught.value.code == "SECRET_UNSAFE"
    assert str(path) in caught.value.msg
    assert "chmod 600" in caught.value.hint


def test_secret_behind_a_link_or_not_a_file_is_refused(tmp_path: Path) -> None:
    write_secret(str(tmp_path / "key"), b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "folder", "fifo"):
        with pytest.raises(ConfigError):
            read_secret(str(tmp_path / name))


def test_missing_secret_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_secret(str(tmp_path / "nothing"))


def test_huge_secret_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(str(path), b"")
    os.truncate(path, 1 << 30)
    with pytest.raises(ConfigError):
        read_secret(str(path))


def test_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    folder = str(tmp_path / "keys")
    first = load_or_create_identity(folder, signing=True)
    again = load_or_create_identity(folder, signing=True)
    assert first.curve == again.curve
    assert first.verify_key == again.verify_key
    assert len(first.verify_key) == 32
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert all(os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600 for name in os.listdir(folder))
    assert first.curve.secret.decode() not in repr(first)


@pytest.mark.parametrize(
    "content", [b"", b"helix-curve-1\n", b"x y z", b"helix-curve-1 " + b"a" * 40 + b" " + b"b" * 40]
)
def test_damaged_key_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = str(tmp_path / "key")
    write_secret(path, content)
    with pytest.raises(ConfigError, match="key"):
        load_or_create_curve_keys(path)
    with pytest.raises(ConfigError, match="key"):
        load_or_create_signing_key(path)
    assert read_secret(path) == content, "what cannot be read must not be replaced"


def test_public_half_that_does_not_fit_the_secret_is_refused(tmp_path: Path) -> None:
    one, other = new_curve_keys(), new_curve_keys()
    path = str(tmp_path / "key")
    write_secret(path, f"helix-curve-1\n{one.public}\n{other.secret.decode()}\n".encode())
    with pytest.raises(ConfigError):
        load_curve_keys(path)


@pytest.mark.parametrize("text", ["", "x" * 39, "x" * 41, "\u00e9" * 40, " " * 40, "\x7f" * 40])
def test_what_is_not_z85_is_not_a_key(text: str) -> None:
    assert not is_curve_key(text)


# ---- join tokens


def test_token_is_good_for_its_uses_and_survives_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "tokens")
    tokens = JoinTokens(path)
    token = tokens.create(NOW, uses=2)
    assert token not in Path(path).read_text()
    assert tokens.is_open(NOW)
    JoinTokens(path).redeem(token, NOW)
    later = JoinTokens(path)
    later.redeem(token, NOW)
    assert not later.is_open(NOW)
    with pytest.raises(Denied) as caught:
        JoinTokens(path).redeem(token, NOW)
    assert caught.value.code == "JOIN_TOKEN_REFUSED"


def test_expired_and_unknown_tokens_are_refused_alike(tmp_path: Path) -> None:
    tokens = JoinTokens(str(tmp_path / "tokens"))
    token = tokens.create(NOW, ttl_s=10)
    texts = set()
    for presented, now in ((token, NOW + 10), ("hxj1-" + "0" * 64, NOW), ("", NOW), ("\udc80", NOW)):
        with pytest.raises(Denied) as caught:
            tokens.redeem(presented, now)
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_tokens_are_limited_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix.wire.auth.JOIN_TOKENS_MAX", 2)
    tokens = JoinTokens(str(tmp_path / "tokens"))
    tokens.create(NOW, ttl_s=10)
    tokens.create(NOW, ttl_s=10)
    with pytest.raises(HelixError):
        tokens.create(NOW)
    tokens.create(NOW + 11)
    assert len(tokens) == 1


def test_token_file_is_checked(tmp_path: Path) -> None:
    token = JoinTokens(str(tmp_path / "tokens")).create(NOW)
    write_secret(str(tmp_path / "good"), f"{token}\n".encode())
    assert read_join_token(str(tmp_path / "good")) == token
    write_secret(str(tmp_path / "bad"), b"hello")
    with pytest.raises(ConfigError):
        read_join_token(str(tmp_path / "bad"))


# ---- members


def test_key_owns_one_name_and_name_one_key() -> None:
    a, b = new_curve_keys().public, new_curve_keys().public
    members = AllowList({"n1": a})
    assert members.name_of(a) == "n1"
    assert members.admit("n1", b) == a
    assert a not in members
    assert members.admit("n2", b) == ""
    assert members.name_of(b) == "n2"
    assert len(members) == 1
    assert members.revoke("n2") == b
    assert members.revoke("n2") == ""
    assert b not in members
    with pytest.raises(ConfigError):
        members.admit("n3", "not a key")
