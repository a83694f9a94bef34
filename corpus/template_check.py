"""Whether a chat template round-trips: a comment and its answer come out of the tokens as they went in.

Every sample is checked like this when it is encoded. A template that changes every text would refuse every row, after all of
them were read; here it is one message before the first.
"""

from __future__ import annotations

from corpus.base_model import BaseModel
from corpus.encode import SampleEncoder
from voc.errors import ModelError
from voc.labels.taxonomy import Taxonomy
from voc.prompts import PromptVariant
from voc.records.records import RowError, Segment, VocRecord

_NO_LIMIT = 1 << 30
_COMMENTS = ("the Battery is dead", 'Grüße 🙂\nZeile 2:\t100 % {ok} & "gut"')


def check_template(base: BaseModel, *, variant: PromptVariant, taxonomy: Taxonomy) -> None:
    """Encode two comments with the base's template and read them back.

    Args:
        base: The model whose tokenizer and template are used.
        variant: Prompt variant of VOC records.
        taxonomy: The labels.

    Raises:
        ModelError: If the template refuses such a chat, or a text does not come back.
    """
    leaf = taxonomy.leaves[0].path
    try:
        encoder = SampleEncoder(base, max_seq_len=_NO_LIMIT, variant=variant, taxonomy=taxonomy)
        for comment in _COMMENTS:
            record = VocRecord("probe", comment, (Segment(comment, leaf, "neutral"),))
            sample = encoder.encode_one(record)
            text = str(base.tokenizer.backend_tokenizer.decode(sample.input_ids.tolist(), skip_special_tokens=False))
            if encoder.normalise(comment) not in text:
                raise RowError("chat_template", f"the prompt {text[-120:]!r} does not hold the comment {comment!r}")
    except RowError as error:
        raise ModelError(
            f"the chat template of {base.uri} does not round-trip ({error.reason}: {error.detail})",
            expected="a template that writes a system turn, a comment and an answer as they are, the prompt first",
            remedy="take the template of the model's family, or correct chat_template.jinja",
        ) from error
