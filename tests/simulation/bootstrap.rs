//! A bootstrap from nothing, and that nothing is left to do after it.

use std::sync::Arc;

use slipway::phase::{RULES, StepId, Target};
use slipway::simulation::rehearsal::rehearse;
use slipway::simulation::{Simulation, with_workers};

use crate::plans::{beginning, cluster, host, settled, simulated, succeeded};

#[test]
fn three_control_planes_and_two_workers_become_a_cluster() {
    simulated(async {
        let plan = cluster(3, 2, "");
        let simulation = Simulation::new(&plan, 1, beginning());
        succeeded(&simulation, &plan).await;
        settled(&simulation, &plan, "after the bootstrap").await;
        let world = simulation.world();
        assert_eq!(world.clusters.len(), 1);
        assert_eq!(world.clusters.values().next().unwrap().members.len(), 3);
        let nodes = world.clusters.values().flat_map(|cluster| cluster.objects.keys()).filter(|id| id.starts_with("Node/"));
        assert_eq!(nodes.count(), 5);
        assert!(world.elapsed().as_secs() > 15, "time passes: {:?}", world.elapsed());
    });
}

#[test]
fn a_rehearsal_tells_what_a_dead_engine_leaves_and_that_a_second_run_ends_well() {
    simulated(async {
        let plan = Arc::new(with_workers(&cluster(3, 0, "network: {cni: {flannel: {}}}\n"), 20));
        for (step, formed) in [("etcd@cp-1", false), ("kubelet@simulated-00007", false), ("nodes@cluster", true)] {
            let (phase, target) = step.split_once('@').unwrap();
            let target = if target == "cluster" { Target::Cluster } else { Target::Host(host(target)) };
            let phase = *RULES.iter().map(|rule| &rule.phase).find(|known| known.to_string() == phase).unwrap();
            let rehearsal = rehearse(&plan, 2, beginning(), Some(&StepId { phase, target })).await.unwrap();
            assert_eq!(rehearsal.broken, Vec::<String>::new());
            let killed = rehearsal.killed.as_ref().unwrap();
            assert!(killed.same_end, "{step}");
            assert!(killed.cut_off.contains(&step.to_owned()), "{step} in {:?}", killed.cut_off);
            if step != "kubelet@simulated-00007" {
                assert_eq!(killed.formed, formed, "{step}");
            }
            assert!(killed.changes_left > 0 && killed.changes_left < rehearsal.changes, "{step}: {}", killed.changes_left);
            assert!(rehearsal.seconds >= rehearsal.bound_seconds && rehearsal.seconds <= 2.0 * rehearsal.bound_seconds, "{rehearsal}");
            println!("{rehearsal}");
        }
    });
}
