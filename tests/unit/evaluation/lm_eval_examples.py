"""Small lm-eval tasks in a folder, and questions in IFEval's format, all of them ours."""

import json

CHOICE_TASK = """\
task: colours_{name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\nAnswer:"
doc_to_choice: ["A", "B"]
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 3
"""
GROUP = "group: colours\ntask: [colours_warm, colours_cold]\n"
WRITE_TASK = """\
task: echo_words
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: generate_until
doc_to_text: "Say {{{{word}}}}"
doc_to_target: "{{{{word}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 7}}
filter_list:
  - name: first
    filter: [{{function: take_first}}]
  - name: letters
    filter:
      - function: regex
        regex_pattern: "([a-z0-9]+)$"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""
IFEVAL = (
    ("punctuation:no_comma", {}, "Name two rivers and use no comma."),
    ("startend:end_checker", {"end_phrase": "That is all."}, "Describe rain and end with: That is all."),
    ("change_case:english_lowercase", {}, "Write about bread in small letters only."),
    ("keywords:existence", {"keywords": ["lamp"]}, "Write a line with the word lamp."),
)


def write_tasks(folder, num=10):
    folder.mkdir(parents=True)
    for name in ("warm", "cold"):
        data = folder / f"{name}.jsonl"
        rows = [{"question": f"{name} {i}?\nA. red\nB. blue", "answer": i % 2} for i in range(num)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(CHOICE_TASK.format(name=name, data=data))
    (folder / "group.yaml").write_text(GROUP)
    data = folder / "words.jsonl"
    data.write_text("".join(json.dumps({"word": f"w{i}"}) + "\n" for i in range(num)))
    (folder / "words.yaml").write_text(WRITE_TASK.format(data=data))
    return str(folder)


def write_ifeval(path):
    rows = [
        {
            "key": i,
            "prompt": f"{prompt} {other[2]}" if i % 3 == 2 else prompt,
            "instruction_id_list": [name, other[0]] if i % 3 == 2 else [name],
            "kwargs": [kwargs, other[1]] if i % 3 == 2 else [kwargs],
        }
        for i, ((name, kwargs, prompt), other) in enumerate(zip(IFEVAL * 2, (IFEVAL * 2)[1:] + IFEVAL[:1], strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
