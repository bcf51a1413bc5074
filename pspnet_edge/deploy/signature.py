"""Ed25519 signatures of packs, made and checked by the system's ``ssh-keygen -Y``.

Every board that can be reached by ssh has it, keys may be in an agent or on a security token, and an Ed25519 signature
of the same bytes is always the same, so that a signed pack is reproducible too.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ..artifact import scratch_folder
from ..errors import PackError
from ..inputs import check_file, read_text
from ..pack_file import SIGNATURE, PackFile

_NAMESPACE = "pspnet-edge"
_SIGNER = "signer"
_KINDS = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com")
_MAKE_KEY = "ssh-keygen -t ed25519 -f pack_key"
_TIMEOUT_S = 120.0


def sign(content: bytes, key: Path) -> bytes:
    """The signature of ``content`` in OpenSSH's format.

    Args:
        content: what is signed.
        key: the file of an Ed25519 private key, or of the public one when the private one is in an agent.

    Raises:
        PackError: no such key, another kind of key, or ssh-keygen refuses it.
    """
    check_file(key, "key", PackError, "make one", _MAKE_KEY)
    done = _ssh_keygen(["-Y", "sign", "-q", "-f", str(key), "-n", _NAMESPACE], content)
    if done.returncode != 0 or not done.stdout:
        raise PackError(
            f"the key {key} cannot be used to sign ({_said(done)})", "give the file of an Ed25519 key", _MAKE_KEY
        )
    return done.stdout


def check_signature(pack: PackFile, public_key: Path) -> None:
    """Compare the signature of a pack's manifest, which holds the SHA-256 of every part, with a public key.

    Args:
        pack: an opened pack.
        public_key: a file with one or several lines ``ssh-ed25519 AAAA…``.

    Raises:
        PackError: not signed, signed with another key, or the file holds no such key.
    """
    lines = [line.split() for line in read_text(public_key, "public key", PackError).splitlines() if line.strip()]
    if not lines or any(len(words) < 2 or words[0] not in _KINDS for words in lines):
        raise PackError(
            f"{public_key} is not an Ed25519 public key of OpenSSH", "give the .pub file that the maker published"
        )
    if not pack.is_signed:
        raise PackError(f"the pack {pack.path} is not signed", "sign it where it is made with --sign KEY")
    with scratch_folder() as folder:
        allowed, signature = folder / "allowed", folder / "signature"
        allowed.write_text("".join(f"{_SIGNER} {words[0]} {words[1]}\n" for words in lines), encoding="utf-8")
        signature.write_bytes(pack.read(SIGNATURE))
        options = ["-f", str(allowed), "-I", _SIGNER, "-n", _NAMESPACE, "-s", str(signature)]
        done = _ssh_keygen(["-Y", "verify", *options], pack.manifest_bytes)
    if done.returncode != 0:
        raise PackError(
            f"the pack {pack.path} is not signed with the key in {public_key}",
            "take the pack from its maker, or give the maker's public key",
        )


def _ssh_keygen(arguments: list[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
    command = shutil.which("ssh-keygen")
    if command is None:
        raise PackError(
            "ssh-keygen is needed for signatures and is not installed",
            "install it",
            "sudo apt-get install openssh-client",
        )
    try:
        return subprocess.run([command, *arguments], input=content, capture_output=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackError(f"ssh-keygen does not answer ({error})", "run it by hand to see why") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else f"status {done.returncode}"
