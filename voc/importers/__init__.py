"""From public corpora to the contract: a taxonomy and VOC records."""
