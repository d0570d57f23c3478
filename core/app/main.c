/* SPDX-License-Identifier: Apache-2.0 */
#include "core/app/cli.h"

int
main(int argc, char **argv)
{
	return (hb_cli_main(argc, argv));
}
