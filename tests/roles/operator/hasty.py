"""`berth`, but a handover is given up after seconds instead of minutes; nothing else is different."""

from berth.cli.main import main
from berth.roles.operator import app

HANDOVER_SECONDS = 2.0

if __name__ == "__main__":
    app.HANDOVER_SECONDS = HANDOVER_SECONDS
    main()
