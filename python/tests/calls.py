"""The calls of ``get_intermediate_layers`` that the golden file has values for."""

CALLS = {
    "default": {},
    "n2": {"n": 2},
    "list": {"n": [2, 0]},
    "reshape": {"n": 2, "reshape": True},
    "cls": {"n": 2, "return_class_token": True},
    "extra": {"n": [1], "return_extra_tokens": True},
    "both": {"n": 3, "reshape": True, "return_class_token": True, "return_extra_tokens": True},
    "raw": {"n": 3, "norm": False, "return_class_token": True},
}
