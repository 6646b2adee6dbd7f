"""The constraints of the API models (required, length, pattern, range, allowed values), which ministack does not check.

AWS refuses a role name of 70 characters or a repository name in capitals before it does anything else. The models come
from botocore, which ministack depends on.
"""

import functools
import json
import re
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import ministack.services.ecr as ecr
import ministack.services.iam as iam
import ministack.services.sts as sts
from botocore.loaders import Loader
from botocore.model import ServiceModel

from aws.patching import replaces

# botocore has Java's patterns, but Python lacks \p{…}. Only tags use them.
_UNICODE_CLASSES = {r"\p{L}": r"\w", r"\p{Z}": r"\s", r"\p{N}": r"\d"}


@replaces(iam, "handle_request")
async def validated_iam(original, method, path, headers, body, query):
    refusal = _refuse_query("iam", body, query)
    return refusal or await original(method, path, headers, body, query)


@replaces(sts, "handle_request")
async def validated_sts(original, method, path, headers, body, query):
    refusal = _refuse_query("sts", body, query)
    return refusal or await original(method, path, headers, body, query)


@replaces(ecr, "handle_request")
async def validated_ecr(original, method, path, headers, body, query):
    shape = _input_shape("ecr", headers.get("x-amz-target", "").rpartition(".")[2])
    try:
        values = json.loads(body or b"{}")
    except ValueError:
        values = None  # ministack itself answers this
    if shape is None or not isinstance(values, dict):
        return await original(method, path, headers, body, query)
    found = list(violations(shape, values))
    if found:
        name, _, constraint = found[0]
        message = f"Invalid parameter at '{name}' failed to satisfy constraint: '{constraint}'"
        return ecr.error_response_json("InvalidParameterException", message, 400)
    return await original(method, path, headers, body, query)


def _refuse_query(service, body, query):
    """Checks the form parameters of IAM and STS, which answer with ValidationError."""
    form = {**parse_qs((body or b"").decode("utf-8", "replace"), keep_blank_values=True), **query}
    shape = _input_shape(service, form.get("Action", [""])[0])
    if shape is None:
        return None
    found = list(violations(shape, _from_form(shape, {key: values[0] for key, values in form.items()})))
    if not found:
        return None
    details = "; ".join(
        f"Value {_quoted(value)} at '{name}' failed to satisfy constraint: Member must {constraint}"
        for name, value, constraint in found
    )
    count = f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected"
    return iam._error(400, "ValidationError", escape(f"{count}: {details}"), ns=service)


def _quoted(value):
    return "null" if value is None else f"'{value}'"


# ---- Against the model


@functools.cache
def _model(service):
    return ServiceModel(Loader().load_service_model(service, "service-2"))


@functools.cache
def _input_shape(service, action):
    model = _model(service)
    return model.operation_model(action).input_shape if action in model.operation_names else None


def violations(shape, value, name=""):
    """Returns each (member, value, constraint) that the shape does not allow."""
    if shape.type_name == "structure" and isinstance(value, dict):
        for member in shape.required_members:
            if value.get(member) is None:
                yield _member(name, member), None, "not be null"
        for member, inner in shape.members.items():
            if value.get(member) is not None:
                yield from violations(inner, value[member], _member(name, member))
    elif shape.type_name == "list" and isinstance(value, list):
        yield from _outside(name, value, "length", len(value), shape.metadata)
        for index, item in enumerate(value, 1):
            yield from violations(shape.member, item, f"{name}.{index}.member")
    elif shape.type_name == "string" and isinstance(value, str):
        yield from _outside(name, value, "length", len(value), shape.metadata)
        pattern = shape.metadata.get("pattern")
        if pattern and not _compiled(pattern).fullmatch(value):
            yield name, value, f"satisfy regular expression pattern: {pattern}"
        if shape.enum and value not in shape.enum:
            yield name, value, f"satisfy enum value set: [{', '.join(shape.enum)}]"
    elif shape.type_name in ("integer", "long") and isinstance(value, int):
        yield from _outside(name, value, "value", value, shape.metadata)


def _outside(name, value, what, number, bounds):
    if "min" in bounds and number < bounds["min"]:
        yield name, value, f"have {what} greater than or equal to {bounds['min']}"
    if "max" in bounds and number > bounds["max"]:
        yield name, value, f"have {what} less than or equal to {bounds['max']}"


def _member(outer, name):
    return (f"{outer}." if outer else "") + name[0].lower() + name[1:]


@functools.cache
def _compiled(pattern):
    flags = re.ASCII  # as for \w and \d in Java
    for java, python in _UNICODE_CLASSES.items():
        if java in pattern:
            pattern, flags = pattern.replace(java, python), 0
    return re.compile(pattern, flags)


# ---- From form parameters (`Tags.member.1.Key`)


def _from_form(shape, form, prefix=""):
    if shape.type_name == "structure":
        outer = f"{prefix}." if prefix else ""
        members = {name: _from_form(inner, form, outer + name) for name, inner in shape.members.items()}
        return {name: value for name, value in members.items() if value is not None} or (None if prefix else {})
    if shape.type_name == "list":
        items = []
        while (item := _from_form(shape.member, form, f"{prefix}.member.{len(items) + 1}")) is not None:
            items.append(item)
        return items or None
    value = form.get(prefix)
    if shape.type_name in ("integer", "long") and value and re.fullmatch(r"-?\d+", value):
        return int(value)
    return value
