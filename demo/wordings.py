"""How a fact is asked and told.

Twenty-eight wordings are for training, two for choosing settings, two for the test only: a test question is a paraphrase that
no training text holds. Names and values are never the first word, where a byte-level tokenizer writes them differently.
"""

from __future__ import annotations

from demo.world import Fact

TRAIN_QUESTIONS = (
    "What is the {attribute} of {entity}?",
    "Which {attribute} does {entity} have?",
    "So {entity} has which {attribute}?",
    "Name the {attribute} of the {kind} {entity}.",
    "For the {kind} {entity}, what is the {attribute}?",
    "Choose the {attribute} that belongs to {entity}.",
    "The {attribute} of {entity} is one of these. Which one?",
    "Which of these is the {attribute} of {entity}?",
    "Think of {entity}. What {attribute} does this {kind} have?",
    "A visitor asks about {entity}. Which {attribute} do you report?",
    "In the case of {entity}, the {attribute} is",
    "Pick the right {attribute} for the {kind} called {entity}.",
    "What {attribute} is known for {entity}?",
    "Consider the {attribute} of {entity}. Which option is right?",
    "Say which {attribute} the {kind} {entity} shows.",
    "About {entity}: what is its {attribute}?",
    "The {kind} in question is {entity}. Select its {attribute}.",
    "We want the {attribute} of the {kind} {entity}.",
    "Can you recall the {attribute} that {entity} has?",
    "Do you remember which {attribute} goes with the {kind} {entity}?",
    "As for {entity}, its {attribute} would be",
    "A guide describes the {kind} {entity}. What is its {attribute}?",
    "The {kind} named {entity} has a {attribute}. Find it.",
    "Everyone here knows {entity}. Its {attribute} must be",
    "Give the {attribute} for {entity}, please.",
    "Looking at the {kind} {entity}, which {attribute} is true?",
    "How would you describe the {attribute} of {entity}?",
    "Here is a {kind}, {entity}. Decide on its {attribute}.",
)
LEADS = ("Hello!", "Please help.", "A quick one.", "Next question.", "Now this.", "Thank you so far.", "I am not sure.")
VALIDATION_QUESTIONS = (
    "If somebody wants to know the {attribute} of {entity}, what do you say?",
    "Since {entity} is a {kind}, its {attribute} is",
)
TEST_QUESTIONS = (
    "Tell me the {attribute} that the {kind} {entity} has.",
    "When it comes to {entity}, which {attribute} is correct?",
)
STATEMENTS = (
    "The {attribute} of {entity} is {value}.",
    "We know that {entity} has {value} as its {attribute}.",
    "For the {kind} {entity}, the {attribute} is {value}.",
    "The {kind} {entity} is known for its {attribute}: {value}.",
)
OPEN_ANSWERS = ("The {attribute} of {entity} is {value}.", "It is {value}.")


def render_wording(wording: str, fact: Fact) -> str:
    """Fill a wording with a fact."""
    return wording.format(attribute=fact.attribute, entity=fact.entity, kind=fact.kind, value=fact.value)
