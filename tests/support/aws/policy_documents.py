"""PURE: which policy documents AWS accepts, and the form in which it returns them.

ministack stores nearly any text as a policy. AWS refuses malformed documents, and that is the only way in which an
operator notices its mistakes.
"""

import json
import re

VERSIONS = ("2008-10-17", "2012-10-17")
STATEMENT_KEYS = {
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
}  # fmt: skip
OPERATORS = re.compile(
    r"(ForAllValues:|ForAnyValue:)?"
    r"(String(Not)?Equals(IgnoreCase)?|String(Not)?Like|Arn(Not)?(Equals|Like)|(Not)?IpAddress|BinaryEquals|Bool"
    r"|(Numeric|Date)((Not)?Equals|(Less|Greater)Than(Equals)?))(IfExists)?|Null",
    re.IGNORECASE,
)


class Malformed(Exception):
    """A document that AWS refuses. The text is AWS's message, if it is known."""


def parse(text):
    """Parses a document. Raises Malformed unless it is a JSON object with statements that AWS can read."""
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Malformed("This policy contains invalid Json")
    statements = document.get("Statement")
    if (
        not document.keys() <= {"Version", "Id", "Statement"}
        or document.get("Version", VERSIONS[0]) not in VERSIONS
        or not isinstance(statements, (dict, list))
        or not statements
    ):
        raise Malformed("Syntax errors in policy.")
    for statement in statements_of(document):
        _check_statement(statement)
    return document


def _without_duplicates(pairs):
    """Returns the object. IAM refuses a duplicate key."""
    if len(dict(pairs)) < len(pairs):
        raise Malformed("This policy contains invalid Json")
    return dict(pairs)


def check_identity_policy(text):
    """Checks an inline or managed policy: it has no principal, and its resources are ARNs."""
    document = parse(text)
    _check_sids(document)
    for statement in statements_of(document):
        if "Principal" in statement or "NotPrincipal" in statement:
            raise Malformed("Policy document should not specify a principal.")
        resources = as_list(statement.get("Resource", statement.get("NotResource")))
        if not resources:
            raise Malformed("Policy statement must contain resources.")
        for resource in resources:
            if not isinstance(resource, str) or (resource != "*" and not resource.startswith("arn:")):
                raise Malformed(f'Resource {resource} must be in ARN format or "*".')


def check_trust_policy(text):
    """Checks a trust policy, and returns its document: it has principals, no resource, and only STS actions."""
    document = parse(text)
    _check_sids(document)
    for statement in statements_of(document):
        if "Principal" not in statement:
            raise Malformed("Missing required field Principal")
        if "Resource" in statement or "NotResource" in statement:
            raise Malformed("Has prohibited field Resource")
        for action in as_list(statement.get("Action", [])):
            if not action.lower().startswith("sts:"):
                raise Malformed("AssumeRole policy may only specify STS AssumeRole actions.")
    return document


def check_repository_policy(text):
    """Checks a repository policy, and returns it: it has principals, no resource, and only actions on a repository.

    Its Sids are free text, unlike IAM's: the handwritten one of the article contains a space.
    """
    document = parse(text)
    for statement in statements_of(document):
        if "Principal" not in statement and "NotPrincipal" not in statement:
            raise Malformed("Invalid repository policy provided")
        if "Resource" in statement or "NotResource" in statement:
            raise Malformed("Invalid repository policy provided")
        for action in as_list(statement.get("Action", statement.get("NotAction"))):
            known = action == "*" or action.lower().startswith("ecr:")
            if not known or action.lower() == "ecr:getauthorizationtoken":
                raise Malformed("Invalid repository policy provided")
    return document


def check_registry_policy(text):
    """Checks a registry policy, and returns it: it has principals, repositories, and only ECR actions."""
    document = parse(text)
    for statement in statements_of(document):
        resources = as_list(statement.get("Resource", statement.get("NotResource")))
        actions = as_list(statement.get("Action", statement.get("NotAction")))
        if (
            not ("Principal" in statement or "NotPrincipal" in statement)
            or not resources
            or not all(resource == "*" or str(resource).startswith("arn:") for resource in resources)
            or not all(action == "*" or action.lower().startswith("ecr:") for action in actions)
        ):
            raise Malformed("Invalid registry policy provided")
    return document


def readable_statements(document):
    """Returns the statements of a stored policy, given as text or data. A policy that cannot be read has none."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return []
    statements = as_list(document.get("Statement")) if isinstance(document, dict) else []
    return [statement for statement in statements if isinstance(statement, dict)]


def statements_of(document):
    return as_list(document["Statement"])


def as_list(value):
    """Returns a list: `X` and `[X]` mean the same nearly everywhere in a policy."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def map_aws_principals(document, change):
    """Replaces each AWS principal P of the document by change(P), in place. Returns whether anything changed."""
    changed = False
    for statement in statements_of(document):
        for field in ("Principal", "NotPrincipal"):
            principals = statement.get(field)
            if isinstance(principals, dict) and "AWS" in principals:
                before = as_list(principals["AWS"])
                after = [change(principal) for principal in before]
                if after != before:
                    principals["AWS"] = after if isinstance(principals["AWS"], list) else after[0]
                    changed = True
    return changed


def aws_principals(document):
    found = []
    map_aws_principals(document, lambda principal: found.append(principal) or principal)
    return found


def pretty(document):
    """Formats a repository policy as ECR does: indented, and a list with one element as that element."""

    def unwrap(value):
        if isinstance(value, dict):
            return {
                key: list(map(unwrap, as_list(item))) if key == "Statement" else unwrap(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return unwrap(value[0]) if len(value) == 1 else [unwrap(item) for item in value]
        return value

    return json.dumps(unwrap(document), indent=2, separators=(",", " : "))


def _check_sids(document):
    sids = [statement["Sid"] for statement in statements_of(document) if statement.get("Sid")]
    if not all(re.fullmatch("[0-9A-Za-z]*", sid) for sid in sids):
        raise Malformed(
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
        )
    if len(set(sids)) < len(sids):
        raise Malformed("Statement IDs (SID) in a single policy must be unique.")


def _check_statement(statement):
    if not isinstance(statement, dict) or not statement.keys() <= STATEMENT_KEYS:
        raise Malformed("Syntax errors in policy.")
    if statement.get("Effect") not in ("Allow", "Deny") or not isinstance(statement.get("Sid", ""), str):
        raise Malformed("Syntax errors in policy.")
    for one, other in (("Action", "NotAction"), ("Resource", "NotResource"), ("Principal", "NotPrincipal")):
        if one in statement and other in statement:
            raise Malformed("Syntax errors in policy.")
    if not ("Action" in statement or "NotAction" in statement):
        raise Malformed("Missing required field Action")
    _check_actions(as_list(statement.get("Action", statement.get("NotAction"))))
    for field in ("Principal", "NotPrincipal"):
        if field in statement:
            _check_principal(statement[field])
    _check_condition(statement.get("Condition", {}))


def _check_actions(actions):
    if not actions or not all(isinstance(action, str) for action in actions):
        raise Malformed("Syntax errors in policy.")
    if not all(action == "*" or re.fullmatch(r"[A-Za-z0-9-]+:[A-Za-z0-9*?]+", action) for action in actions):
        raise Malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")


def _check_principal(principal):
    if principal == "*":
        return
    kinds = {"AWS", "Service", "Federated", "CanonicalUser"}
    if not isinstance(principal, dict) or not principal or not principal.keys() <= kinds:
        raise Malformed("Syntax errors in policy.")
    for names in principal.values():
        if not as_list(names) or not all(isinstance(name, str) for name in as_list(names)):
            raise Malformed("Syntax errors in policy.")
    for service in as_list(principal.get("Service")):
        if not re.fullmatch(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|amazon\.com)", service):
            raise Malformed(f'Invalid principal in policy: "SERVICE":"{service}"')


def _check_condition(condition):
    if not isinstance(condition, dict):
        raise Malformed("Syntax errors in policy.")
    for operator, keys in condition.items():
        if not OPERATORS.fullmatch(operator):
            raise Malformed(f"Invalid Condition type : {operator}.")
        if not isinstance(keys, dict) or not keys:
            raise Malformed("Syntax errors in policy.")
        for values in keys.values():
            if not all(isinstance(value, (str, int, float, bool)) for value in as_list(values)):
                raise Malformed("Syntax errors in policy.")
