# program: single
break count
start_program
watch counter
continue
continue
continue
continue
backtrace
delete
continue
