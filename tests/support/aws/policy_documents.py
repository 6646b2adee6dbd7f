"""PURE: what AWS accepts as a policy document, and the form in which it gives one back.

ministack stores nearly any text as a policy. AWS refuses malformed ones when they are written, and an operator learns of
its mistakes in no other way.
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
    """A document that AWS refuses; the text is AWS's own message where that is known."""


def parse(text):
    """The document as data; raises Malformed unless it is a JSON object with statements that AWS could read."""
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
    """The object; of a key that stands in it twice, nobody could say which one counts, and IAM refuses it."""
    if len(dict(pairs)) < len(pairs):
        raise Malformed("This policy contains invalid Json")
    return dict(pairs)


def check_identity_policy(text):
    """An inline or managed policy: no principal, resources by ARN."""
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
    """A role's trust policy: principals, no resource, only STS actions. Gives back the document."""
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
    """An ECR repository policy: principals, no resource, only ECR actions that have a repository. Gives it back.

    Its Sids are free text, unlike IAM's: the hand-made one of the article has a space in it.
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
    """A registry's own policy: principals, the repositories that it is about, only ECR actions. Gives it back."""
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
    """The statements of a stored policy, as text or as data; none of what cannot be read, which then allows nobody anything."""
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
    """`X` and `[X]` mean the same nearly everywhere in a policy."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def map_aws_principals(document, change):
    """Replaces each AWS principal P of the document by change(P), in place; says whether that changed anything."""
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
    """As ECR prints a repository policy: indented, and a list of one as its only element."""

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
