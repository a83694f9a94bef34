"""From the categories of an ACOS corpus (`ENTITY#ATTRIBUTE`) to a four-level taxonomy.

L1 = family of the entity, L2 = entity, L3 = family of the attribute, L4 = attribute: one leaf per category, and a figure per
level that says something of its own. Families come from the vocabulary of the SemEval laptop and restaurant corpora, which
ACOS extends; any other name goes to the family `Other`, so every corpus in the format has a tree.

Source: https://aclanthology.org/S16-1002 (SemEval-2016 task 5, whose entities and attributes ACOS uses)
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from voc.labels.taxonomy import LabelPath, Leaf, Taxonomy

OTHER = "Other"
_HARDWARE = (
    "HARDWARE DISPLAY KEYBOARD MOUSE MOTHERBOARD CPU FANS&COOLING FANS_COOLING PORTS MEMORY POWER_SUPPLY OPTICAL_DRIVES "
    "BATTERY GRAPHICS HARD_DISC MULTIMEDIA_DEVICES"
)
_ENTITY_FAMILIES = {
    "Product": "LAPTOP RESTAURANT",
    "Hardware": _HARDWARE,
    "Software": "OS SOFTWARE",
    "Service": "SUPPORT SHIPPING WARRANTY COMPANY SERVICE",
    "Offer": "FOOD DRINKS",
    "Place": "AMBIENCE LOCATION",
}
_FAMILY_OF_ENTITY = {entity: family for family, names in _ENTITY_FAMILIES.items() for entity in names.split()}

# Attribute: its family, and what it means.
_ATTRIBUTES = {
    "GENERAL": ("Overall", "overall opinion"),
    "MISCELLANEOUS": ("Overall", "whatever no other attribute covers"),
    "PRICE": ("Value", "price and value for money"),
    "PRICES": ("Value", "price and value for money"),
    "QUALITY": ("Build", "quality, durability and defects"),
    "DESIGN_FEATURES": ("Build", "design, looks, size and features"),
    "PORTABILITY": ("Build", "weight and ease of carrying"),
    "STYLE_OPTIONS": ("Build", "style, portions and choice"),
    "OPERATION_PERFORMANCE": ("Use", "how well and how fast it works"),
    "USABILITY": ("Use", "ease of use"),
    "CONNECTIVITY": ("Use", "connections to networks and devices"),
}
_ACRONYM_LENGTH = 3


def label_of(category: str) -> LabelPath:
    """Return the label path of a category, as the module describes it."""
    entity, attribute = category.split("#")
    family, _ = _ATTRIBUTES.get(attribute.upper(), (OTHER, ""))
    return _FAMILY_OF_ENTITY.get(entity.upper(), OTHER), _title(entity), family, _title(attribute)


def describe_category(category: str) -> str:
    """Return what a category means, for the taxonomy."""
    entity, attribute = category.split("#")
    _, meaning = _ATTRIBUTES.get(attribute.upper(), ("", _title(attribute).lower()))
    return f"{_title(entity)}: {meaning} ({category})"


def make_taxonomy(categories: Iterable[str]) -> Taxonomy:
    """Return the taxonomy of some categories, sorted by path."""
    leaves: dict[LabelPath, Leaf] = {}
    for category in sorted(categories):  # spellings that differ in case only are one leaf, described by the first
        leaves.setdefault(label_of(category), Leaf(label_of(category), describe_category(category)))
    return Taxonomy(tuple(leaves[path] for path in sorted(leaves)))


def _title(name: str) -> str:
    words = re.sub(r"\s+", " ", name.replace("_", " ").replace("&", " & ")).strip() or name
    return words.upper() if len(words) <= _ACRONYM_LENGTH else words.capitalize()
