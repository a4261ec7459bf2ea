//! Properties: what is written is read back, and no text makes the reader panic.

use proptest::prelude::*;

use super::*;
use crate::plan::{Endpoint, Host, KeyAlgorithm, Mirror, Role, Taint};

/// Texts that YAML writers and readers like to disagree on.
fn awkward_text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,12}", Just("yes".into()), Just("1.20".into()), Just("null".into()), Just("0644".into()), Just("é: #".into())]
}

fn host(index: u8, worker: bool, label: String) -> Host {
    let mut host: Host = serde_json::from_value(serde_json::json!({
        "name": format!("host-{index}"),
        "address": format!("192.0.2.{}", index + 1),
        "roles": [if worker { "worker" } else { "control-plane" }],
    }))
    .expect("a host");
    host.labels.insert("example.test/label".into(), label);
    host
}

prop_compose! {
    fn plan()(
        control_planes in 0..3_u8,
        workers in 0..6_u8,
        label in "([a-z0-9A-Z]([-a-z_.A-Z0-9]{0,20}[a-z0-9])?)?",
        flag in awkward_text(),
        variable in awkward_text(),
        setting in awkward_text(),
        corefile in "[a-z\t ]{1,5}x\n[ -~]{0,20}\n?",
        user in "[a-z][a-z0-9]{0,8}",
        pull: bool,
        tainted: bool,
        hours in 1_000..8_000_u64,
    ) -> Plan {
        let (mut plan, _) = parse(MINIMAL).expect("the minimal plan is fine");
        let control_planes = 2 * control_planes + 1;
        plan.hosts = (0..control_planes + workers).map(|index| host(index, index >= control_planes, label.clone())).collect();
        plan.endpoint = Some(Endpoint::LocalProxy { port: 7443, image: "haproxy".into() });
        plan.api_server.extra_args.insert("audit-log-path".into(), crate::plan::ArgumentValues(vec![flag.clone(), "1".into()]));
        plan.scheduler.extra_args.insert("v".into(), flag.as_str().into());
        plan.etcd.extra_env.insert("VARIABLE".into(), variable);
        plan.kubelet.configuration.insert("someField".into(), serde_json::json!({ "deep": [setting, 1, true, null, 1.5] }));
        plan.core_dns.corefile = Some(corefile);
        plan.ssh.user = Some(user);
        plan.images.pull = pull;
        plan.pki.algorithm = KeyAlgorithm::EcdsaP384;
        plan.pki.validity = crate::names::Span::seconds(hours * 3600);
        plan.runtime.mirrors.insert("docker.io".into(), Mirror { endpoints: vec!["http://a:5000".into()], skip_verify: true });
        if tainted {
            let effect = crate::plan::Effect::NoExecute;
            plan.hosts[0].taints = Some(vec![Taint { key: "a".into(), value: label, effect }]);
            plan.hosts[0].roles.insert(Role::Worker);
        }
        plan
    }
}

proptest! {
    #[test]
    fn a_written_plan_is_read_back_unchanged(plan in plan()) {
        let text = yaml::write(&plan);
        match parse(&text) {
            Ok((read, _)) => prop_assert_eq!(read, plan),
            Err(problems) => prop_assert!(false, "{}\n{}", report::render(&problems, &text, "plan.yaml", false), text),
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\PC\n\t]{0,60}") {
        shown(&text);
    }

    #[test]
    fn no_change_to_an_example_makes_the_reader_panic(
        example in 0..EXAMPLES.len(),
        at in 0.0..1.0_f64,
        removed in 0..40_usize,
        put in "[-a-z0-9{}\\[\\],:\"'&*!~é \n/]{0,6}",
    ) {
        let text: Vec<char> = EXAMPLES[example].chars().collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rough place")]
        let start = (at * text.len() as f64) as usize;
        let end = (start + removed).min(text.len());
        shown(&text[..start].iter().copied().chain(put.chars()).chain(text[end..].iter().copied()).collect::<String>());
    }
}

const EXAMPLES: [&str; 5] = [
    include_str!("../../../../plans/highly-available.yaml"),
    include_str!("../../../../plans/external-etcd.yaml"),
    include_str!("../../../../plans/dual-stack.yaml"),
    include_str!("../../../../plans/offline.yaml"),
    include_str!("../../../../plans/lab.yaml"),
];

/// Reads a text and shows what is wrong with it; problems have a message and lie in the text.
fn shown(text: &str) {
    if let Err(problems) = parse(text) {
        assert!(problems.iter().any(|problem| problem.severity == Severity::Error));
        for problem in &problems {
            assert!(problem.line <= text.lines().count() + 1 && !problem.message.is_empty(), "{problem:?}");
        }
        assert!(!report::render(&problems, text, "plan.yaml", false).is_empty());
    }
}
