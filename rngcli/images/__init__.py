"""What a picture on disk is: `read` and `write` files, `decode` and `encode` their bytes."""

from rngcli.atomic import PART_PREFIX, PART_SUFFIX
from rngcli.images.arrays import array_of, image_of, samples_like
from rngcli.images.colour import in_srgb
from rngcli.images.files import (
    FORMAT_OF_SUFFIX,
    RAW_SUFFIXES,
    READABLE_SUFFIXES,
    SUFFIX_OF_FORMAT,
    decode,
    decode_page,
    encode,
    encode_page,
    format_named,
    one_picture,
    output_suffix,
    read,
    read_pages,
    size_of,
    sniff,
    write,
    write_bytes,
    write_new,
)
from rngcli.images.fitting import losses
from rngcli.images.image import Depth, Encoding, Format, Image, RawSpace, ReadOptions, WriteOptions, turned
from rngcli.images.metadata import Metadata
from rngcli.images.tiff_bands import BandedTiff, StoredTiff, read_stored
from rngcli.images.tiff_pages import PageAppender, TiffPages

__all__ = [
    "FORMAT_OF_SUFFIX",
    "PART_PREFIX",
    "PART_SUFFIX",
    "RAW_SUFFIXES",
    "READABLE_SUFFIXES",
    "SUFFIX_OF_FORMAT",
    "BandedTiff",
    "Depth",
    "Encoding",
    "Format",
    "Image",
    "Metadata",
    "PageAppender",
    "RawSpace",
    "ReadOptions",
    "StoredTiff",
    "TiffPages",
    "WriteOptions",
    "array_of",
    "decode",
    "decode_page",
    "encode",
    "encode_page",
    "format_named",
    "image_of",
    "in_srgb",
    "losses",
    "one_picture",
    "output_suffix",
    "read",
    "read_pages",
    "read_stored",
    "samples_like",
    "size_of",
    "sniff",
    "turned",
    "write",
    "write_bytes",
    "write_new",
]  # fmt: skip
