# program: single
break own_code
start_program
break add
next
next
next
next
next
next
stepi
nexti
print $_exitcode
continue
finish
delete
continue
print $_exitcode
