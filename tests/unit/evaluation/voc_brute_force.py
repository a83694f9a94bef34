"""Every VOC measure a second time, in plain loops over comments, written from the definitions and from nothing else."""

from itertools import permutations

LEVELS = ("L1", "L2", "L3", "L4")


def divide(a, b):
    return a / b if b else 0.0


def score(pairs):
    """Precision, recall, F1 of (in prediction, in gold) yes-no pairs."""
    tp = sum(1 for p, g in pairs if p and g)
    precision = divide(tp, sum(1 for p, _ in pairs if p))
    recall = divide(tp, sum(1 for _, g in pairs if g))
    return [precision, recall, divide(2 * precision * recall, precision + recall)]


def all_averages(predicted, gold, depth):
    predicted = [{tuple(path[:depth]) for path in labels} for labels in predicted]
    gold = [{tuple(path[:depth]) for path in labels} for labels in gold]
    seen = sorted(set().union(*predicted, *gold))
    cells = {label: [(label in p, label in g) for p, g in zip(predicted, gold, strict=True)] for label in seen}
    support = {label: sum(g for _, g in pairs) for label, pairs in cells.items()}
    labels = [label for label in seen if support[label]]
    rows = [[(label in p, label in g) for label in p | g] for p, g in zip(predicted, gold, strict=True)]
    mean = lambda weight: [  # noqa: E731
        divide(sum(weight(label) * score(cells[label])[k] for label in labels), sum(map(weight, labels)))
        for k in range(3)
    ]
    return {
        "micro": score([pair for pairs in cells.values() for pair in pairs]),
        "macro": mean(lambda label: 1),
        "weighted": mean(lambda label: support[label]),
        "samples": [sum(score(row)[k] if row else 1.0 for row in rows) / len(rows) for k in range(3)],
    }


def hierarchical(predicted, gold):
    pairs = []
    for labels, right in zip(predicted, gold, strict=True):
        ours = {path[:depth] for path in labels for depth in (1, 2, 3, 4)}
        theirs = {path[:depth] for path in right for depth in (1, 2, 3, 4)}
        pairs += [(node in ours, node in theirs) for node in ours | theirs]
    return score(pairs)


def only(labels, allowed):
    return [{path for path in one if path in allowed} for one in labels]


def shared_names(a, b):
    count = 0
    for x, y in zip(a, b, strict=True):
        if x != y:
            break
        count += 1
    return count


def best_nearness(wrong, missed):
    """Of every way to pair wrong with missed labels, the counts by nearness that are best: 3 first, then 2, 1, 0."""
    wrong, missed = sorted(wrong), sorted(missed)
    if len(wrong) < len(missed):
        wrong, missed = missed, wrong
    best = (0, 0, 0, 0)
    for order in permutations(wrong, len(missed)):
        near = [shared_names(a, b) for a, b in zip(order, missed, strict=True)]
        best = max(best, tuple(near.count(depth) for depth in (3, 2, 1, 0)))
    return best


def places(segments, comment):
    """Every predicted character as (start, end, label), by walking through the comment."""
    taken = {}
    found = []
    for segment in segments:
        starts = [
            i
            for i in range(len(comment))
            if segment.content and comment[i : i + len(segment.content)] == segment.content
        ]
        if not starts:
            continue
        later = [i for i in starts if i >= taken.get(segment.content, 0)]
        start = later[0] if later else starts[0]
        taken[segment.content] = start + len(segment.content)
        found.append((start, start + len(segment.content), segment.label))
    return found


def span_figures(answers):
    """Cells of characters, of characters with labels; and whole segments found, predicted, expected."""
    plain, labelled, found, num_predicted, num_gold = [], [], 0, 0, 0
    for answer in answers:
        comment = answer.record.comment
        ours, theirs = places(answer.segments, comment), places(answer.record.segments, comment)
        for at in range(len(comment)):
            a = {label for start, end, label in ours if start <= at < end}
            b = {label for start, end, label in theirs if start <= at < end}
            plain.append((bool(a), bool(b)))
            labelled += [(label in a, label in b) for label in a | b]
        left = list(theirs)
        for span in ours:
            if span in left:
                left.remove(span)
                found += 1
        num_predicted += len(answer.segments)
        num_gold += len(answer.record.segments)
    whole = [divide(found, num_predicted), divide(found, num_gold), divide(2 * found, num_predicted + num_gold)]
    return score(plain), score(labelled), whole


def coverage_counts(answers):
    counts = dict.fromkeys(("gold", "both", "written", "written_ours", "written_theirs", "ours", "twice"), 0)
    for answer in answers:
        comment = answer.record.comment
        ours, theirs = places(answer.segments, comment), places(answer.record.segments, comment)
        for at, character in enumerate(comment):
            over = sum(start <= at < end for start, end, _ in ours)
            gold = any(start <= at < end for start, end, _ in theirs)
            counts["gold"] += gold
            counts["both"] += gold and over > 0
            counts["ours"] += over > 0
            counts["twice"] += over > 1
            if character not in " \t\n":
                counts["written"] += 1
                counts["written_ours"] += over > 0
                counts["written_theirs"] += gold
    return counts


def emotion_counts(answers):
    right = total = 0
    for answer in answers:
        for label in {segment.label for segment in answer.record.segments}:
            ours = sorted({s.emotion for s in answer.segments if s.label == label})
            theirs = sorted({s.emotion for s in answer.record.segments if s.label == label})
            if ours:
                total += 1
                right += ours == theirs
    return right, total
