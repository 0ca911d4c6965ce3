"""The method: answers, gate, subset selection, fusion and baselines. Arrays in, arrays out.

Deployed, it takes embeddings of prompts and says whom to ask; it takes what these answered and says which option it is:

>>> import numpy as np
>>> from moe2.answers import bundled_answers
>>> from moe2.fusion import fuse, top_k
>>> from moe2.gate import bundled_gate
>>> gate, answers = bundled_gate(), bundled_answers()
>>> prompts = answers.of(answers.rows("test")[:3])  # of prompts of one's own: moe2.encoder.embed
>>> kept = ["llama-3.1-8b-instruct", "phi-3-mini-4k-instruct", "mathstral-7b"]  # as moe2.selection.select chose
>>> experts, weights = top_k(gate.logits_of(prompts.embedding, kept), k=2)  # (3, 2) places among the kept
>>> choice = prompts.for_models(kept).choice  # (3, 3) what each answers; -1 for one that was not asked would do
>>> votes = gate.logits_and_votes(prompts.embedding, kept, choice)[1]  # (3, 3)
>>> asked = [np.take_along_axis(column, experts, axis=1) for column in (choice, votes)]
>>> fuse(*asked, prompts.n_options).shape
(3,)
"""
