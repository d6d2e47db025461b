"""The subjects that can be drawn, with the words for them, and filler words.

A subject's name is its name in `painting/scenes.py`.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

_MEANING: Final[dict[str, tuple[str, str]]] = {
    # name: (its name for people, the words that mean it)
    "aurora": ("northern lights", r"auroras?(?: borealis)?|(?:northern|polar) lights"),
    "lighthouse": ("a lighthouse", r"light[\s-]?houses?|far(?:ol|óis)"),
    "balloon": ("hot-air balloons", r"(?:hot[\s-]air )?balloons?|bal(?:ão|ões)"),
    "boat": (
        "a sailing boat",
        r"(?:sail(?:ing)?[\s-]?|fishing |row(?:ing)?[\s-]?)?(?:boats?|ships?|yachts?)|barcos?",
    ),
    "sunset": (
        "a low sun",
        r"sun[\s-]?(?:sets?|rises?)|dusk|dawn|golden hour|evening|twilight|pôr do sol",
    ),
    "night": ("the night", r"(?:mid)?night(?:[\s-]?time)?|nocturnal|moonlit|starlit|noite"),
    "moon": ("the moon", r"(?:full |crescent )?moon(?:s|light)?|lua"),
    "stars": ("stars", r"star(?:s|ry|light)?|galax(?:y|ies)|milky way|cosmos|estrelas?"),
    "sun": ("the sun", r"sun(?:ny|shine|light)?|sol"),
    "clouds": ("clouds", r"cloud(?:s|y)?|overcast|nuvens|nuvem"),
    "snow": ("snow", r"snow(?:y|ing|fall|flakes)?|wint(?:er|ry)|neve|frozen|ice|icy"),
    "rain": ("rain", r"rain(?:y|ing)?|storm(?:s|y)?|drizzle|chuva"),
    "fog": ("fog", r"fog(?:gy)?|mist(?:y|s)?|haz[ey]|smoky|neblina"),
    "desert": ("a desert", r"deserts?|(?:sand )?dunes?|sahara|deserto"),
    "sea": (
        "the water",
        r"seas?|oceans?|lakes?|waters?|rivers?|beach(?:es)?|coasts?|shores?|bays?|harbou?rs?|"
        r"waves?|fjords?|seaside|ponds?|islands?|mar|praia|lago|rio",
    ),
    "mountains": (
        "mountains",
        r"mountains?|peaks?|alps|alpine|cliffs?|volcano(?:es)?|summits?|ridges?|montanhas?",
    ),
    "city": (
        "a city",
        r"cit(?:y|ies)|sky[\s-]?(?:lines?|scrapers?)|towns?|downtown|urban|cidades?",
    ),
    "house": (
        "a house",
        r"houses?|cottages?|cabins?|huts?|homes?|barns?|villages?|farm(?:house)?s?|chalets?|casas?",
    ),
    "forest": ("a forest", r"forests?|wood(?:s|land)|pines?|jungle|firs|spruces?|florestas?"),
    "tree": ("a tree", r"trees?|oaks?|birch(?:es)?|árvores?"),
    "flowers": (
        "flowers",
        r"(?:wild)?flowers?|roses?|tulips?|popp(?:ies|y)|dais(?:ies|y)|sunflowers?|blossoms?|"
        r"gardens?|bouquets?|flor(?:es)?|jardim",
    ),
    "hills": (
        "hills",
        r"hills?|meadows?|fields?|valleys?|countryside|pastures?|grass(?:y|land)?|plains?|"
        r"landscapes?|colinas?",
    ),
    "birds": ("birds", r"birds?|(?:sea)?gulls?|geese|swallows?|crows?|p[aá]ssaros?"),
}
SUBJECTS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(rf"(?<!\w)(?:{words})(?!\w)"), name) for name, (_, words) in _MEANING.items()
)

_FILLERS: Final = """
    a an the this that these those it its it's i'd i'm is are was be been as at in on of to for
    from into onto with within by over under up down out off and or but then than so also plus
    too very much more less most least some any all whole entire every everything only just
    please kindly could can would you i me my we us our your want wants like need let lets let's
    make makes made making add adds added adding put puts give gives given turn turns turned set
    have has having get gets apply applied applying use using used do does doing change changes
    changed convert converted create created creating edit edits edited editing draw drawn
    drawing show shows paint take transform render generate picture pictures image images photo
    photos photograph photographs photography scene version look looks looking feel feels
    feeling effect effects filter filters style styled mood tone tones toned overall little bit
    slight slightly strong lot really quite rather somewhat again now here there still keep same
    next together where which one two few nice nicely beautiful pretty lovely good great better
    perfect crop cropped ratio format border reference references colour colours color colors
    light lighting tint tinted thing something o os um uma e de da dos das em no na com para por
    mais menos muito pouco faça deixe coloque foto imagem
"""
FILLERS: Final = frozenset(_FILLERS.split())
"""Words that request nothing by themselves."""


def said(subjects: Collection[str]) -> Sequence[str]:
    """The subjects by their names for people."""
    return [_MEANING[subject][0] for subject in subjects]
