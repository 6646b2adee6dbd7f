//! `registry-grants policy diff`, as users and scripts call it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A temporary folder.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("policy-diff-{}-{test}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.join(name), content).unwrap();
        self
    }

    /// Runs the program. Returns exit status, standard output and standard error.
    fn diff(&self, arguments: &[&str], stdin: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry-grants"));
        command
            .args(["policy", "diff"])
            .args(arguments)
            .current_dir(&self.0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that does not read standard input may have exited already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const LEFT: &str = r#"{
  "Version": "2008-10-17",
  "Statement": [
    {
      "Sid": "Pull", "Effect": "Allow", "Principal": {"AWS": ["222222222222", "arn:aws:iam::333333333333:root"]},
      "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
      "Condition": {"StringLike": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:222222222222:function:*"}}
    },
    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "ecr:BatchGetImage"},
    {"Sid": "Old", "Effect": "Deny", "Principal": "*", "Action": "ecr:*", "Condition": {"Bool": {"aws:SecureTransport": false}}}
  ]
}"#;

#[test]
fn reworded_policy_is_no_difference() {
    let reworded = r#"{"Version":"2012-10-17","Statement":[
        {"Sid":"New","Principal":{"AWS":["*"]},"Effect":"Deny","Action":["ECR:*"],"Condition":{"Bool":{"aws:securetransport":"false"}}},
        {"Effect":"Allow","Principal":{"Service":["lambda.amazonaws.com"]},"Action":["ecr:batchgetimage"]},
        {"Sid":"Pull","Effect":"Allow","Principal":{"AWS":["333333333333","arn:aws:iam::222222222222:root"]},
         "Action":["ecr:GetDownloadUrlForLayer","ecr:BatchGetImage"],
         "Condition":{"StringLike":{"aws:SourceArn":["arn:aws:lambda:eu-west-1:222222222222:function:*"]}}}]}"#;
    let folder = Folder::new("same")
        .with("left.json", LEFT)
        .with("right.json", reworded);
    let (status, shown, errors) = folder.diff(&["left.json", "right.json"], "");
    assert_eq!((status, errors.as_str()), (0, ""));
    insta::assert_snapshot!(shown, @r#"
    The same under another Sid: 3 "Old" is 1 "New" in right.json
    The documents mean the same; statements in both: 3.
    "#);
}

#[test]
fn differences_are_printed_by_statement() {
    let right = r#"{"Version":"2012-10-17","Odd":1,"Statement":[
        {"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"ecr:BatchGetImage"},
        {"Sid":"Pull","Effect":"Allow","Principal":{"AWS":["222222222222","arn:aws:iam::444444444444:role/ci"]},
         "Action":["ecr:BatchGetImage","ecr:PutImage"],"Resource":[],
         "Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:lambda:eu-west-1:222222222222:function:*"}}},
        {"Effect":"Allow","NotPrincipal":{"AWS":"AROAEXAMPLEEXAMPLE00"},"Action":"ecr:ListImages"}]}"#;
    let folder = Folder::new("different")
        .with("left.json", LEFT)
        .with("right.json", right);
    let (status, shown, errors) = folder.diff(&["left.json", "right.json"], "");
    assert_eq!((status, errors.as_str()), (2, ""));
    insta::assert_snapshot!(shown, @r#"
    - left.json
    + right.json

    Outside the statements
      Odd
        + 1 (as JSON)

    Statement 1 "Pull", now 2: changed
      Principal AWS
        - arn:aws:iam::333333333333:root
        + arn:aws:iam::444444444444:role/ci
      Action
        - ecr:GetDownloadUrlForLayer
        + ecr:PutImage
      Resource
        + [] (as JSON)
      Condition ArnLike aws:SourceArn
        + arn:aws:lambda:eu-west-1:222222222222:function:*
      Condition StringLike aws:SourceArn
        - arn:aws:lambda:eu-west-1:222222222222:function:*

    Statement 3 "Old": only in left.json
      Effect
        - Deny
      Principal AWS
        - *
      Action
        - ecr:*
      Condition Bool aws:SecureTransport
        - false

    Statement 3: only in right.json
      Effect
        + Allow
      NotPrincipal AWS
        + AROAEXAMPLEEXAMPLE00
      Action
        + ecr:ListImages

    The documents differ; statements in both: 1.
    "#);
}

#[test]
fn version_is_a_difference_if_a_variable_is_used() {
    let document = |version| {
        format!(
            r#"{{{version}"Statement":{{"Effect":"Allow","Action":"*","Resource":"${{aws:username}}"}}}}"#
        )
    };
    let folder = Folder::new("version")
        .with("old.json", document(""))
        .with("new.json", document(r#""Version":"2012-10-17","#));
    let (status, shown, _) = folder.diff(&["old.json", "new.json"], "");
    assert_eq!(status, 2);
    insta::assert_snapshot!(shown, @r#"
    - old.json
    + new.json

    Outside the statements
      Version (variables, `${`, exist only in 2012-10-17)
        - 2008-10-17
        + 2012-10-17

    The documents differ; statements in both: 1.
    "#);
}

#[test]
fn percent_encoded_document_is_read_from_standard_input() {
    let encoded: String = LEFT.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let folder = Folder::new("stdin").with("left.json", LEFT);
    let (status, shown, _) = folder.diff(&["-", "left.json"], &encoded);
    assert_eq!(
        (status, shown.as_str()),
        (0, "The documents mean the same; statements in both: 3.\n")
    );
    let (status, shown, _) = folder.diff(&["left.json", "-"], r#"{"Statement":[]}"#);
    assert_eq!(
        (status, shown.lines().nth(1)),
        (2, Some("+ standard input"))
    );
    let (status, _, errors) = folder.diff(&["-", "-"], LEFT);
    assert_eq!(
        (status, errors.as_str()),
        (
            1,
            "registry-grants: only one of the two documents can be standard input\n"
        )
    );
}

#[test]
fn aws_cli_response_is_read_or_refused_with_a_hint() {
    let text = serde_json::to_string(LEFT).unwrap();
    let answers = [
        format!(r#"{{"registryId":"111111111111","repositoryName":"web","policyText":{text}}}"#),
        format!(r#"{{"RoleName":"node","PolicyName":"ecr","PolicyDocument":{LEFT}}}"#),
        format!(r#"{{"Role":{{"RoleName":"node","AssumeRolePolicyDocument":{LEFT}}}}}"#),
        format!(r#"{{"PolicyVersion":{{"VersionId":"v1","Document":{LEFT}}}}}"#),
        text.clone(),
    ];
    let folder = Folder::new("answers").with("left.json", LEFT);
    for answer in answers {
        let (status, shown, errors) = folder.diff(&["-", "left.json"], &answer);
        let same = "The documents mean the same; statements in both: 3.\n";
        assert_eq!(
            (status, shown.as_str(), errors.as_str()),
            (0, same, ""),
            "{answer}"
        );
    }
    for (answer, hint) in [
        (
            r#"{"repositories":[]}"#,
            "standard input: there is no Statement, so this is not a policy document",
        ),
        (
            r#"{"policyText":"{"}"#,
            "standard input: in policyText: line 1",
        ),
    ] {
        let (status, _, errors) = folder.diff(&["-", "left.json"], answer);
        assert!(status == 1 && errors.contains(hint), "{errors}");
    }
}

#[test]
fn unreadable_document_is_named_with_its_place() {
    let folder = Folder::new("unreadable")
        .with("left.json", LEFT)
        .with(
            "twice.json",
            "{\"Statement\":[\n{\"Sid\":\"a\",\"Sid\":\"b\"}]}",
        )
        .with("latin1.json", b"{\"Id\":\"\xe9\"}")
        .with("large.json", " ".repeat(2 << 20));
    for (file, expected) in [
        (
            "twice.json",
            "twice.json: line 2, column 16: the key \"Sid\" occurs twice in one object",
        ),
        (
            "latin1.json",
            "latin1.json: line 1, column 8: the document is not UTF-8 here",
        ),
        (
            "large.json",
            "large.json: the document has 1048577 bytes, more than the limit of 1048576",
        ),
        (
            "missing.json",
            "missing.json: No such file or directory (os error 2)",
        ),
    ] {
        for arguments in [["left.json", file], [file, "left.json"]] {
            let (status, shown, errors) = folder.diff(&arguments, "");
            assert_eq!(
                (status, shown.as_str(), errors),
                (1, "", format!("registry-grants: {expected}\n"))
            );
        }
    }
}

#[test]
fn document_text_is_safe_for_a_terminal() {
    let hostile =
        r#"{"Statement":{"Sid":"\u001b[2J\u202e\"quoted\"","Effect":"Allow\nDeny","Action":""}}"#;
    let folder = Folder::new("hostile")
        .with("a.json", hostile)
        .with("b.json", r#"{"Statement":[]}"#);
    let (_, shown, _) = folder.diff(&["a.json", "b.json"], "");
    insta::assert_snapshot!(shown, @r#"
    - a.json
    + b.json

    Statement 1 "\u{1b}[2J\u{202e}"quoted"": only in a.json
      Effect
        - Allow\nDeny
      Action
        - (an empty string)

    The documents differ; statements in both: 0.
    "#);
}

#[test]
fn wrong_arguments_do_not_exit_like_a_difference() {
    let folder = Folder::new("arguments");
    let (status, _, errors) = folder.diff(&["only-one.json"], "");
    assert_eq!(status, 1, "{errors}");
    let (status, help, _) = folder.diff(&["--help"], "");
    assert_eq!(status, 0);
    assert!(
        help.contains("Exit status: 0 the same meaning, 2 different, 1 ")
            && help.contains("Example"),
        "{help}"
    );
}
