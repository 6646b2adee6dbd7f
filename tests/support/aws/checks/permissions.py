"""Least privilege: what the operator's management role may do, and what it is denied."""

from aws.checks.stack import REGION, Check, allow, client, policy, root, trust

EC2 = trust({"Service": "ec2.amazonaws.com"})
OURS = {"Key": "registrygrants.dev/installation", "Value": "abc"}
POWER_USER = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser"


def equal(*keys):
    return {"StringEquals": {key: value for each in keys for key, value in each.items()}}


class ManagementRole(Check):
    def setUp(self):
        self.own = self.account()
        self.admin = client("iam", self.own)
        self.path = f"arn:aws:iam::{self.own}:role/registry-grants/*"
        profiles = f"arn:aws:iam::{self.own}:instance-profile/registry-grants/*"
        boundary = self.admin.create_policy(PolicyName="boundary", PolicyDocument=policy(allow("ecr:*")))
        self.boundary = boundary["Policy"]["Arn"]
        bounded = {"iam:PermissionsBoundary": self.boundary}
        requested = {f"aws:RequestTag/{OURS['Key']}": OURS["Value"]}
        tagged = {f"aws:ResourceTag/{OURS['Key']}": OURS["Value"]}
        self.statements = [
            allow("iam:CreateRole", self.path, Condition=equal(bounded, requested)),
            allow("iam:TagRole", self.path, Condition=equal(requested)),
            allow("iam:GetRole", f"arn:aws:iam::{self.own}:role/*"),
            allow(["iam:UpdateAssumeRolePolicy", "iam:DeleteRole"], self.path, Condition=equal(tagged)),
            allow("iam:PutRolePolicy", self.path, Condition=equal(bounded, tagged)),
            allow("iam:AttachRolePolicy", self.path, Condition={"ArnEquals": {"iam:PolicyARN": POWER_USER}}),
            allow(["iam:CreateInstanceProfile", "iam:TagInstanceProfile"], profiles, Condition=equal(requested)),
            allow("iam:AddRoleToInstanceProfile", profiles, Condition=equal(tagged)),
        ]
        self.keys = self.instance(self.own, *self.statements, name="registry-grants")
        self.iam = client("iam", self.keys)

    def create(self, name="role", **changed):
        named = {"Path": "/registry-grants/", "PermissionsBoundary": self.boundary, "Tags": [OURS], **changed}
        return self.iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=EC2, **{key: value for key, value in named.items() if value}
        )

    def permit(self, *more):
        document = policy(*self.statements, *more)
        self.admin.put_role_policy(RoleName="registry-grants", PolicyName="permissions", PolicyDocument=document)

    def test_roles_only_under_its_path_with_its_boundary_and_its_tag(self):
        others = [{**OURS, "Value": "other"}]
        for changed in ({"Path": "/"}, {"PermissionsBoundary": None}, {"Tags": others}, {"Tags": None}):
            with self.subTest(changed):
                self.assertRefused("AccessDenied", self.create, status=403, **changed)
        self.create()
        self.iam.update_assume_role_policy(RoleName="role", PolicyDocument=EC2)
        self.iam.put_role_policy(RoleName="role", PolicyName="p", PolicyDocument=policy(allow("*")))

    def test_tags_at_creation_need_their_own_permission(self):
        self.statements = [statement for statement in self.statements if statement["Action"] != "iam:TagRole"]
        self.permit()
        said = self.assertRefused("AccessDenied", self.create, status=403)
        self.assertIn("not authorized to perform: iam:TagRole", said)

    def test_what_others_made_is_not_touched(self):
        self.admin.create_role(RoleName="foreign", Path="/registry-grants/", AssumeRolePolicyDocument=EC2)
        self.assertEqual(self.iam.get_role(RoleName="foreign")["Role"]["RoleName"], "foreign")
        update = self.iam.update_assume_role_policy
        self.assertRefused("AccessDenied", update, RoleName="foreign", PolicyDocument=EC2, status=403)
        self.assertRefused("AccessDenied", self.iam.delete_role, RoleName="foreign", status=403)
        put = self.iam.put_role_policy
        self.assertRefused("AccessDenied", put, RoleName="foreign", PolicyName="p", PolicyDocument=policy(allow("*")))

    def test_only_the_managed_policies_that_are_meant(self):
        self.create()
        self.iam.attach_role_policy(RoleName="role", PolicyArn=POWER_USER)
        everything = "arn:aws:iam::aws:policy/AdministratorAccess"
        self.assertRefused(
            "AccessDenied", self.iam.attach_role_policy, RoleName="role", PolicyArn=everything, status=403
        )

    def test_putting_a_role_into_a_profile_passes_it(self):
        self.create()
        self.iam.create_instance_profile(InstanceProfileName="p", Path="/registry-grants/", Tags=[OURS])
        add = self.iam.add_role_to_instance_profile
        said = self.assertRefused("AccessDenied", add, InstanceProfileName="p", RoleName="role", status=403)
        self.assertIn("not authorized to perform: iam:PassRole", said)
        self.permit(allow("iam:PassRole", self.path, Condition=equal({"iam:PassedToService": "ec2.amazonaws.com"})))
        add(InstanceProfileName="p", RoleName="role")

    def test_what_is_not_there_has_no_path(self):
        self.statements = [statement for statement in self.statements if statement["Action"] != "iam:GetRole"]
        self.permit(allow("iam:GetRole", self.path))
        self.assertRefused("AccessDenied", self.iam.get_role, RoleName="none", status=403)

    def test_a_denial_outweighs_every_permission(self):
        self.create()
        self.permit(allow("*"), {"Effect": "Deny", "Action": "iam:DeleteRolePermissionsBoundary", "Resource": "*"})
        refused = self.iam.delete_role_permissions_boundary
        self.assertRefused("AccessDenied", refused, RoleName="role", status=403)

    def test_a_boundary_narrows_what_a_role_may(self):
        self.permit(allow("*"))
        self.create("bounded")
        self.iam.put_role_policy(RoleName="bounded", PolicyName="p", PolicyDocument=policy(allow("*")))
        keys = self.session(self.own, f"arn:aws:iam::{self.own}:role/registry-grants/bounded")
        client("ecr", keys).describe_repositories()
        self.assertRefused("AccessDenied", client("iam", keys).list_roles, status=403)

    def test_listing_repositories_needs_all_of_them_reading_named_ones_these(self):
        for name in ("team/app", "other"):
            client("ecr", self.own).create_repository(repositoryName=name)
        self.permit(allow("ecr:DescribeRepositories", f"arn:aws:ecr:{REGION}:{self.own}:repository/team/*"))
        read = client("ecr", self.keys).describe_repositories
        self.assertEqual(len(read(repositoryNames=["team/app"])["repositories"]), 1)
        self.assertRefused("AccessDeniedException", read, repositoryNames=["team/app", "other"])
        self.assertRefused("AccessDeniedException", read)


class Sessions(Check):
    def test_assuming_a_role_takes_both_sides(self):
        a, b = self.account(), self.account()
        role = f"arn:aws:iam::{a}:role/path/role"
        caller = self.instance(b, allow("sts:AssumeRole", role))
        assume = client("sts", caller).assume_role
        self.assertRefused("AccessDenied", assume, RoleArn=role, RoleSessionName="check", status=403)
        demand = {"StringEquals": {"sts:ExternalId": "secret"}}
        document = trust({"AWS": root(b)}, Condition=demand)
        client("iam", a).create_role(RoleName="role", Path="/path/", AssumeRolePolicyDocument=document)
        for more in ({}, {"ExternalId": "wrong"}):
            self.assertRefused("AccessDenied", assume, RoleArn=role, RoleSessionName="check", status=403, **more)
        keys = self.session(caller, role, ExternalId="secret")
        identity = client("sts", keys).get_caller_identity()
        self.assertEqual((identity["Account"], identity["Arn"]), (a, f"arn:aws:sts::{a}:assumed-role/role/check"))

    def test_tags_of_a_session_take_both_sides_by_an_action_of_their_own(self):
        a, b = self.account(), self.account()
        role = f"arn:aws:iam::{a}:role/role"
        alone, both = ["sts:AssumeRole"], ["sts:AssumeRole", "sts:TagSession"]
        tags = {"Tags": [{"Key": "team", "Value": "b"}]}
        client("iam", a).create_role(RoleName="role", AssumeRolePolicyDocument=trust({"AWS": root(b)}))
        callers = [self.instance(b, allow(may, role), name=name) for name, may in (("alone", alone), ("both", both))]
        for trusted, allowed in ((alone, [False, False]), (both, [False, True])):
            document = trust({"AWS": root(b)}, Action=trusted)
            client("iam", a).update_assume_role_policy(RoleName="role", PolicyDocument=document)
            for caller, may in zip(callers, allowed, strict=True):
                with self.subTest(trusted=trusted, may=may):
                    self.session(caller, role)
                    if may:
                        self.session(caller, role, **tags)
                        continue
                    assume = client("sts", caller).assume_role
                    said = self.assertRefused("AccessDenied", assume, RoleArn=role, RoleSessionName="check", **tags)
                    self.assertIn("not authorized to perform: sts:TagSession", said)

    def test_a_session_lasts_no_longer_than_its_role_allows(self):
        a = self.account()
        iam = client("iam", a)
        document = trust({"AWS": root(a)})
        made = iam.create_role(RoleName="role", AssumeRolePolicyDocument=document, MaxSessionDuration=7200)
        role = made["Role"]["Arn"]
        assume = client("sts", a).assume_role
        assume(RoleArn=role, RoleSessionName="check", DurationSeconds=7200)
        self.assertRefused("ValidationError", assume, RoleArn=role, RoleSessionName="check", DurationSeconds=7201)
        chained = client("sts", self.instance(a, allow("sts:AssumeRole"))).assume_role
        chained(RoleArn=role, RoleSessionName="check", DurationSeconds=3600)
        self.assertRefused("ValidationError", chained, RoleArn=role, RoleSessionName="check", DurationSeconds=3601)

    def test_another_accounts_root_is_no_instance(self):
        a = self.account()
        role = client("iam", a).create_role(RoleName="instance", AssumeRolePolicyDocument=EC2)["Role"]["Arn"]
        self.session(a, role)
        assume = client("sts", self.account()).assume_role
        self.assertRefused("AccessDenied", assume, RoleArn=role, RoleSessionName="check", status=403)

    def test_a_session_ends_with_its_role(self):
        a = self.account()
        keys = self.instance(a)
        client("iam", a).delete_role(RoleName="instance")
        self.instance(a)
        self.assertRefused("InvalidClientTokenId", client("sts", keys).get_caller_identity, status=403)

    def test_a_wrong_signature_is_refused(self):
        keys = self.instance(self.account(), allow("*"))
        forged = client("iam", keys._replace(secret="wrong"))
        self.assertRefused("SignatureDoesNotMatch", forged.list_roles, status=403)
