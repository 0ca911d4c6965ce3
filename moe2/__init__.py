"""The method: answers, gate, subset selection, fusion and baselines. Arrays in, arrays out."""
