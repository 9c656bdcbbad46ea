"""Write the alerts of every golden scenario anew."""

import json

from .golden import files, outcome

for path in files():
    scenario = json.loads(path.read_text())
    scenario["alerts"] = outcome(scenario)
    path.write_text(json.dumps(scenario, indent=2, ensure_ascii=False) + "\n")
    print(f"{path.name}: {len(scenario['alerts'])} alerts")
