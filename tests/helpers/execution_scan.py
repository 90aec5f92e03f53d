"""A search of modules for what executes what it reads, or hands the whole environment on."""

import ast

# What turns bytes or text into running code.
EXECUTING = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "code", "runpy"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "torch.jit.load",
    "torch.hub.load",
}


def calls(tree: ast.AST) -> list[tuple[str, dict[str, object]]]:
    """Every call's dotted name and its constant keyword arguments."""
    return [
        (
            ast.unparse(node.func),
            {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)},
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def executes(source: str) -> list[str]:
    """What in a module's text could run what it reads."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in EXECUTING]
    for name, keywords in calls(tree):
        unsafe = name == "torch.load" and keywords.get("weights_only") is not True
        told = any(keywords.get(key) for key in ("allow_pickle", "trust_remote_code", "shell"))
        if name in CALLS or unsafe or told or keywords.get("weights_only") is False:
            found.append(name)
    return found


def whole_environments(source: str) -> list[str]:
    """Uses of os.environ as a whole, which could be printed or handed on.

    One variable by its name is no such use, nor is choosing some by theirs: `.items()` in a
    comprehension that has a condition.
    """
    tree, named = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) or (
            isinstance(node, ast.Attribute) and node.attr in ("get", "setdefault", "pop")
        ):
            named.add(node.value)
        elif isinstance(node, ast.Compare):
            named.update(node.comparators)
        elif isinstance(node, ast.comprehension) and node.ifs and isinstance(node.iter, ast.Call):
            named.add(getattr(node.iter.func, "value", None))
    every = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    every = [node for node in every if node.attr == "environ" and ast.unparse(node) == "os.environ"]
    return [ast.unparse(node) for node in every if node not in named]
