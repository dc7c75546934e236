package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"anycloud/shared/catalog"
)

func (a *app) gpusCommand() *cobra.Command {
	var cloud string
	cmd := &cobra.Command{
		Use: "gpus [NAME[:COUNT|:all]]", Short: "List the clouds' GPUs, their machine types and list prices", Args: cobra.MaximumNArgs(1),
		Long: `Lists the machine types with GPUs that --gpu can choose, by cloud, cheapest
first. Prices are on-demand list prices of one region each (the date is printed)
and no offer: spot prices are lower and change. With a name, only the machine
types that --gpu NAME would choose from. A control plane on your own machine has
the GPUs of that machine.`,
		RunE: func(_ *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			machines, err := gpuMachines(cloud, name)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if a.json {
				return a.printJSON(machines)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "GPU\tCOUNT\tGPU MEMORY\tCLOUD\tTYPE\tVCPUS\tMEMORY\tARCH\tUSD/H")
			for _, m := range machines {
				price := "-"
				if m.USDPerHour > 0 {
					price = fmt.Sprintf("%.2f", m.USDPerHour)
				}
				fmt.Fprintf(w, "%s\t%d\t%g GiB\t%s\t%s\t%g\t%g GiB\t%s\t%s\n", m.GPU, m.GPUs, m.GPUMemoryGiB, m.Cloud, m.Type, m.VCPUs, m.MemoryGiB, m.Arch, price)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			a.note("on-demand list prices of %s; spot is cheaper and changes", catalog.AsOf)
			return nil
		},
	}
	cmd.Flags().StringVar(&cloud, "cloud", "", "only of this cloud: "+strings.Join(catalog.Clouds(), ", "))
	return cmd
}

// gpuMachines lists the machine types with that GPU ("": with any).
func gpuMachines(cloud, gpu string) ([]catalog.Machine, error) {
	clouds := catalog.Clouds()
	if cloud != "" {
		clouds = []string{cloud}
	}
	var names []string
	need := catalog.Need{GPUs: catalog.All}
	if gpu != "" {
		name, count, err := catalog.ParseGPU(gpu)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(gpu, ":") {
			count = catalog.All
		}
		names, need.GPUs = []string{name}, count
	} else if names = catalog.GPUs(cloud); len(names) == 0 {
		return nil, fmt.Errorf("cloud %s is not in the catalog: it has %s", cloud, strings.Join(catalog.Clouds(), ", "))
	}
	var all []catalog.Machine
	var last error
	for _, need.GPU = range names {
		for _, c := range clouds {
			machines, err := catalog.Resolve(c, need)
			if err != nil {
				last = err
				continue
			}
			all = append(all, machines...)
		}
	}
	if len(all) == 0 && errors.Is(last, catalog.ErrNoFit) && cloud == "" {
		return nil, fmt.Errorf("no machine type has %s: %s:all shows those that there are", need, names[0])
	}
	if len(all) == 0 {
		return nil, last
	}
	return all, nil
}
