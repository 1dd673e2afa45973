"""Documents one after the other, cut every `context` tokens: nothing is padded, nothing dropped, documents are cut anywhere.

Each document ends with EOS where the tokenizer has one. Without `document_mask` a sequence sees all that stands before in
it, other documents too; with it, each sees itself alone, as MeCo's and Llama 3's trainings do.
"""

from factory.core.packing import Packer, PackerSettings, cut
from factory.core.registry import register


@register("concatenate", version=1, config=PackerSettings)
def concatenate(config: PackerSettings) -> Packer:
    return Packer(pack=lambda lengths, context, seed: cut(lengths, context))
