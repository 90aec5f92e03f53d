"""Names that browsers, phones, other systems and other languages give to files and folders."""

NAMES = (
    "photos (1)", "fotos_año", "写真", "a#1", "a,b", "a=b", "a&b", "it's", "$x", "{a}", "[1]",
    "100%", "My%20Repo", "what?", "a;b", "a!b", "(a)", "<a>", "x`y`", 'say "x"', "a|b*", "a^b",
    "-a", "C:\\Users\\x", "back\\", "two  spaces", "a\tb", "a\nb", "👍🏽", "e\u0301", "\u05d0",
    "null", "true", "007", "1e3", "1_000", "'quoted'x", "a+b@c", "~a", "con.", "x" * 200,
)  # fmt: skip
