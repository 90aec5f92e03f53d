"""What a file is by its first bytes or its ending, and what would read one that is not read here.

Nothing here decodes: Pillow does, of the formats that `rhs.preprocessing.prepare_image` lists.
"""

import re
from pathlib import PurePosixPath

HEAD = 64  # first bytes of a file that `content` looks at

# Endings of files that are taken for images whatever is in them: preprocess says what is wrong.
IMAGE_ENDINGS = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".j2k",
        ".jpx",
        ".j2c",
        ".jpc",
        ".jpf",
        ".avif",
        ".avifs",
        ".qoi",
        ".tga",
        ".heic",
        ".heif",
        ".hif",
        ".heics",
        ".jxl",
        ".psd",
        ".psb",
        ".ico",
        ".icns",
        ".dds",
        ".exr",
    }
)
RAW_ENDINGS = frozenset(
    {
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".crw",
        ".dcr",
        ".dng",
        ".erf",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
        ".nrw",
        ".orf",
        ".pef",
        ".raf",
        ".raw",
        ".rw2",
        ".rwl",
        ".sr2",
        ".srf",
        ".srw",
        ".x3f",
    }
)
# Endings of other versions of a picture: passed over where one that is read lies beside them.
VERSION_ENDINGS = RAW_ENDINGS | {".heic", ".heif", ".hif", ".jxl", ".psd", ".psb"}

TAKEN = frozenset({"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG 2000", "AVIF", "QOI"})
UNREAD = {
    "HEIC": "pip install pillow-heif lets it be read, or convert it to JPEG (heif-convert)",
    "JPEG XL": "convert it to JPEG or PNG (djxl)",
    "AVIF": "this Pillow has no AVIF: install a newer one, or convert it to JPEG",
    "camera raw": "develop it to JPEG or TIFF (darktable-cli, or dcraw -T)",
    "Photoshop": "export it as PNG or TIFF (magick 'x.psd[0]' x.png)",
    "icon": "convert it to PNG (magick)",
    "OpenEXR": "convert it to PNG of 8 bits (magick)",
    "Radiance HDR": "convert it to PNG of 8 bits (magick)",
    "DDS": "convert it to PNG (magick)",
    "PostScript": "convert it to PNG (gs -sDEVICE=png16m)",
    "SVG": "draw it as PNG (rsvg-convert)",
    "PDF": "draw its pages as PNG (pdftoppm -png)",
    "video": "take its frames (ffmpeg -i film.mp4 frames/%05d.jpg)",
    "zip archive": "unpack it (unzip)",
    "gzip": "unpack it (gunzip, or tar -xzf)",
    "bzip2": "unpack it (bunzip2, or tar -xjf)",
    "xz": "unpack it (unxz, or tar -xJf)",
    "7z archive": "unpack it (7z x)",
    "RAR archive": "unpack it (unrar x)",
    "zstd": "unpack it (zstd -d, or tar --zstd -xf)",
    "lz4": "unpack it (lz4 -d)",
    "HDF5": "write its arrays as PNG files, one folder per class",
    "NumPy": "write its arrays as PNG files, one folder per class",
    "MATLAB": "write its arrays as PNG files, one folder per class",
    "Parquet": "a table of images is dataset=table",
}
ARCHIVES = frozenset(k for k, advice in UNREAD.items() if advice.startswith("unpack"))

_MAGIC = (  # the zero byte is \x00 where a digit follows
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"(II\*\0|MM\0\*).{4}CR", "camera raw"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "TIFF"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s", "PPM"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"qoif", "QOI"),
    (rb".{4}ftyp.{0,24}avi[fs]", "AVIF"),
    (rb".{4}ftyp.{0,24}(hei[cxms]|hev[cxms]|mif1|msf1)", "HEIC"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|IIU\0", "camera raw"),
    (
        rb".{4}(ftyp|moov|mdat|wide)|\x1a\x45\xdf\xa3|RIFF....AVI |\0\0\x01[\xba\xb3]|FLV\x01",
        "video",
    ),
    (rb"8BPS", "Photoshop"),
    (rb"\0\0[\x01\x02]\0[^\0]\0|icns", "icon"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"#\?R(ADIANCE|GBE)", "Radiance HDR"),
    (rb"DDS ", "DDS"),
    (rb"%!PS", "PostScript"),
    (rb"\s*(<\?xml[^>]*>\s*)?<svg", "SVG"),
    (rb"%PDF", "PDF"),
    (rb"PK(\x03\x04|\x05\x06)", "zip archive"),
    (rb"\x1f\x8b", "gzip"),
    (rb"BZh[1-9]", "bzip2"),
    (rb"\xfd7zXZ\0", "xz"),
    (rb"7z\xbc\xaf\x27\x1c", "7z archive"),
    (rb"Rar!\x1a\x07", "RAR archive"),
    (rb"\x28\xb5\x2f\xfd", "zstd"),
    (rb"\x04\x22\x4d\x18", "lz4"),
    (rb"\x89HDF\r\n\x1a\n", "HDF5"),
    (rb"\x93NUMPY", "NumPy"),
    (rb"MATLAB 5", "MATLAB"),
    (rb"PAR1", "Parquet"),
)
_KNOWN = tuple((re.compile(pattern, re.DOTALL), name) for pattern, name in _MAGIC)


def content(head: bytes) -> str:
    """The format that a file's first `HEAD` bytes tell, "" if none that is known here."""
    return next((name for pattern, name in _KNOWN if pattern.match(head[:HEAD])), "")


def ending(name: str) -> str:
    """The ending of a file's name in lower case, with its dot; "" if it has none."""
    return PurePosixPath(name).suffix.lower().rstrip(" ")


def not_read(kind: str) -> str:
    """Why an image of this format is refused, as "kind: detail"; "" if nothing is known of it."""
    return f"{kind}, which is not read: {UNREAD[kind]}" if kind in UNREAD else ""
