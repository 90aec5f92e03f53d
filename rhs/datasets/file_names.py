"""Names as systems write them: one spelling of each, and zip's, which may be in any encoding."""

import re
import unicodedata
import zipfile
from collections.abc import Sequence

UTF_8 = 0x800  # flag of a zip's member whose name says that it is UTF-8
WINDOWS = (0, 10, 11, 14)  # systems whose file names cannot hold a backslash
# Kana, kanji and their marks, in one run.
JAPANESE = re.compile("[\u3001-\u301c\u3040-\u30ff\u4e00-\u9fff\u3400-\u4dbf\uff08\uff09]+")
BESIDE = re.compile(r"[A-Za-z]?[^\x00-\x7f]+[A-Za-z]?")


def one_spelling(text: str) -> str:
    """Of a letter with its accent, which macOS writes as two characters and others as one."""
    return unicodedata.normalize("NFC", text)


def zip_names(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The names of a zip's members, "/" between their parts.

    A name that does not say its encoding is UTF-8 where all of them are, Japanese Windows' (cp932)
    where all of them look like it, and else what zip's standard says, cp437. Where Windows made the
    archive, or no name has a "/", a backslash parts them.
    """
    unsaid = [_raw(member) for member in members if not member.flag_bits & UTF_8]
    encoding = _encoding([raw for raw in unsaid if raw is not None and not raw.isascii()])
    names = []
    for member in members:
        raw = None if member.flag_bits & UTF_8 else _raw(member)
        names.append(member.filename if raw is None else raw.decode(encoding))
    parted = any("/" in name for name in names)
    return [
        name if parted and member.create_system not in WINDOWS else name.replace("\\", "/")
        for name, member in zip(names, members, strict=True)
    ]


def _raw(member: zipfile.ZipInfo) -> bytes | None:
    """The name's bytes; None: `zipfile` has read them otherwise than as cp437."""
    try:
        return member.filename.encode("cp437")
    except UnicodeEncodeError:
        return None


def _encoding(names: list[bytes]) -> str:
    for encoding in ("utf-8", "cp932"):
        try:
            texts = [name.decode(encoding) for name in names]
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or all(map(_is_japanese, texts)):
            return encoding
    return "cp437"


def _is_japanese(text: str) -> bool:
    """Whether all beyond ASCII is. One character whose second byte is ASCII, or one between letters
    of ASCII, may as well be an accented letter of cp437 and what follows it."""
    runs = [found[0] for found in BESIDE.finditer(text)]
    return all(
        JAPANESE.fullmatch(run) is not None and (len(run) > 1 or run.encode("cp932")[-1] >= 0x80)
        for run in runs
    )
