//! A bootstrap from nothing, and that nothing is left to do after it.

use slipway::simulation::Simulation;

use crate::plans::{beginning, cluster, settled, simulated, succeeded};

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
